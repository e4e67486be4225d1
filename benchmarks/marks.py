"""The part of a page that a command writes, between two marks."""

from pathlib import Path

from reticket.files import put_between


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
