"""The part of a page that a command writes, between two marks."""

from pathlib import Path


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
    whole = page.read_text("utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise ValueError(f"{page}: the marks '{begin}' and '{end}' are needed once each; put them where figures go")
    page.write_text(f"{whole.split(begin)[0]}{begin}\n{text}{end}{whole.split(end)[1]}", encoding="utf-8")
