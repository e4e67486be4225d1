"""A table as LaTeX for a paper: booktabs, whatever stands in a name escaped."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}", "±": r"$\pm$", "\u2212": "$-$", "–": "--", "—": "---",
    "\u00a0": "~", "…": r"\ldots{}", "π": r"$\pi$", "α": r"$\alpha$", "×": r"$\times$", "·": r"$\cdot$",
    "≥": r"$\geq$", "≤": r"$\leq$", "’": "'", "‘": "`", "“": "``", "”": "''",
}  # fmt: skip
LAST_LATIN = "\u017f"  # what pdflatex knows by itself


@dataclass(frozen=True)
class LatexCell:
    """One cell: its text as it is read, over how many columns it stands, and whether it is bold."""

    text: str
    span: int = 1
    bold: bool = False

    def __str__(self) -> str:
        text = f"\\textbf{{{escaped(self.text)}}}" if self.bold else escaped(self.text)
        return text if self.span == 1 else f"\\multicolumn{{{self.span}}}{{c}}{{{text}}}"


def escaped(text: str) -> str:
    r"""Return a text such that LaTeX prints it as it is, on one line.

    >>> print(escaped("naive_signed & 50 % [*]"), escaped("93.1 ± 0.2"))
    naive\_signed \& 50 \% {[}{*}] 93.1 $\pm$ 0.2
    """
    line = re.sub(r"[^\S\u00a0]|[\x00-\x1f\x7f-\x9f]", " ", unicodedata.normalize("NFC", text))
    return "".join(SIGNS.get(sign, sign) for sign in line.replace("--", "-\u200b-")).replace("\u200b", "{}")


def latex_table(
    heads: Sequence[Sequence[LatexCell]], body: Iterable[Sequence[LatexCell]], caption: str, label: str
) -> str:
    """Return a floating table that needs the package booktabs and nothing else.

    Args:
        heads: rows of its head; those above the last may span columns.
        body: rows; spans of each add up to the same number of columns, as those of a head do.
        caption: as it is read.
        label: what `\\ref` names, after "tab:".
    """
    columns = sum(cell.span for cell in heads[0])
    lines = [
        r"\begin{table}", r"  \centering", f"  \\caption{{{escaped(caption)}}}", f"  \\label{{tab:{_label(label)}}}",
        f"  \\begin{{tabular}}{{l{'r' * (columns - 1)}}}", r"    \toprule", *_head(heads), r"    \midrule",
        *(f"    {_row(row)}" for row in body), r"    \bottomrule", r"  \end{tabular}", r"\end{table}",
    ]  # fmt: skip
    text = "\n".join(lines)
    needs = "" if max(text) <= LAST_LATIN else ", and LuaLaTeX or XeLaTeX for its letters"
    return f"% needs \\usepackage{{booktabs}}{needs}\n{text}\n"


def _head(heads: Sequence[Sequence[LatexCell]]) -> Iterator[str]:
    """Yield the rows of the head, a rule under every cell that spans columns."""
    for row in heads:
        yield f"    {_row(row)}"
        ends = list(accumulate(cell.span for cell in row))
        rules = [f"\\cmidrule(lr){{{end - cell.span + 1}-{end}}}" for cell, end in zip(row, ends, strict=True)]
        spanning = [rule for rule, cell in zip(rules, row, strict=True) if cell.span > 1]
        if spanning:
            yield f"    {' '.join(spanning)}"


def _row(cells: Sequence[LatexCell]) -> str:
    return f"{' & '.join(map(str, cells))} \\\\"


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-") or "table"
