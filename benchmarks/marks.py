"""The part of a page that a command writes, between two marks."""

from collections.abc import Sequence
from pathlib import Path

from reticket.files import put_between


def show(lines: Sequence[str], page: Path | None, begin: str, end: str) -> None:
    """Print a table, and write it between two marks of a page where one is given.

    Args:
        lines: of the table, as Markdown.
        page: a Markdown file with both marks.
        begin: first mark.
        end: last mark.

    Raises:
        ValueError: as `write_between`.
    """
    text = "\n".join(lines) + "\n"
    print(text)
    if page is not None:
        write_between(page, begin, end, text)


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of a page.

    Args:
        page: a Markdown file with both marks.
        begin: first mark.
        end: last mark.
        text: what is to stand there, with a line break at its end.

    Raises:
        ValueError: when a mark is missing or there twice.
    """
    try:
        page.write_text(put_between(page.read_text("utf-8"), begin, end, text), encoding="utf-8")
    except ValueError as problem:
        raise ValueError(f"{page}: {problem}") from None
