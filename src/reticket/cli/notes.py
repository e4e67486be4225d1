"""What is said beside the output of a command."""

import sys


def note(text: str) -> None:
    """Print a line that is no part of what a command gives."""
    print(f"reticket: {text}", file=sys.stderr)
