"""`python -m reticket` is the command line, which torchrun starts by this name."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[0]  # as Python puts it there, a user's csv.py or torch.py would be imported for the real one
    from reticket.cli import main

    main()
