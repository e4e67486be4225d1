"""`python -m reticket` is the command line, which torchrun starts by this name."""

from reticket.cli import main

if __name__ == "__main__":
    main()
