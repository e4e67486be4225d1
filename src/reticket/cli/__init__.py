"""The command line, `reticket --help`."""


def main() -> None:
    """Run the command line; imported late, so that `reticket --help` is quick."""
    from reticket.cli.app import entry

    entry()
