"""The PDFs of figures: cutting the fonts for them is a third of a whole run, so that few tests draw them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from matplotlib.backends.backend_pdf import FigureCanvasPdf

PRINT = FigureCanvasPdf.print_pdf


@contextmanager
def empty_pdfs() -> Iterator[None]:
    """While active, figures are saved as PDF files without content."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasPdf, "print_pdf", lambda _, file, **__: file.write(b""))
        yield


@contextmanager
def whole_pdfs() -> Iterator[None]:
    """While active, figures are saved as PDF as users have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasPdf, "print_pdf", PRINT)
        yield
