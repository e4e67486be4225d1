"""The command line: `reticket run|list|report|compare|export|inspect|verify|match|transfer`."""


def main() -> None:
    """Run the command line; imported late, so that `reticket --help` is quick."""
    from reticket.cli.app import entry

    entry()
