"""Tables for a paper: the numbers of the run, as many digits as the spread allows, and LaTeX that compiles."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticket.errors import ConfigError, InputError
from reticket.figures.latex import LatexCell, escaped, latex_table
from reticket.report.exporting import FORMATS, GRID, export_table
from reticket.report.tables import all_tables
from reticket.tasks.results import Results
from tests.sample_results import sample_results, write_run

AWKWARD = [
    "a_b & 50 % of $x$ #1 {~^}\\",
    "[first]",
    "*starred",
    "naïve—π ± α",
    "two--dashes\nand a line",
    '"<|>"',
    "\x07",
]


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return sample_results(seeds=5)


@pytest.fixture(scope="module")
def results(values: dict[str, Any]) -> Results:
    return Results.of_json(values)


def rows_of(latex: str) -> list[list[str]]:
    """Return the cells of every row of a tabular, a cell over several columns once for each."""
    found = []
    for line in re.findall(r"^ {4}(.*) \\\\$", latex, re.MULTILINE):
        cells = []
        for cell in re.split(r"(?<!\\) & ", line):
            span = re.match(r"\\multicolumn\{(\d+)\}\{c\}\{(.*)\}$", cell)
            cells += [span[2]] * int(span[1]) if span else [cell]
        found.append(cells)
    return found


def check_latex(text: str) -> None:
    """See that braces and environments close and that every row has as many cells as there are columns."""
    assert escaped("{}\\") == r"\{\}\textbackslash{}"
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns is not None
    assert {len(row) for row in rows_of(text)} == {len(columns[1])}
    assert not re.search(r"(?<!\\)[%#_^]|(?<!\\)&(?! )", text.partition("\n")[2])


@pytest.mark.parametrize(
    "table", [GRID, "accuracy", "loss", "gap_closed", "differences", "cost", "barriers", "exemplars"]
)
def test_every_table_is_whole_as_latex(results: Results, table: str) -> None:
    check_latex(export_table(results, table, "latex"))


def test_the_grid_has_every_cell_with_its_mean_and_spread(values: dict[str, Any], results: Results) -> None:
    body = {row[0]: row[1:] for row in rows_of(export_table(results))[2:]}
    expected = [
        f"{row['mean']:.2f} $\\pm$ {row['sd']:.2f}"
        for sparsity in (0.9, 0.95, 0.98)
        for rewind in ("0ep", "5ep")
        for row in values["rows"]
        if (row["method"], row["sparsity"], row["rewind"], row["metric"]) == ("permuted", sparsity, rewind, "accuracy")
    ]
    assert len(expected) == 6
    assert body["permuted"] == expected
    assert len(set(body["dense"])) == 1


def test_best_is_bold_where_it_is_asked_for_alone(results: Results) -> None:
    assert "**" not in export_table(results, form="markdown")
    assert "\\textbf" not in export_table(results)
    bold = export_table(results, bold=True)
    assert bold.count("\\textbf") == 6
    assert "Bold: the highest mean of the methods that start a new initialisation" in bold
    assert not re.search(r"^ {4}(LTH|IMP|dense).*\\textbf", bold, re.MULTILINE)
    assert export_table(results, form="markdown", bold=True).count("**") == 12


def test_the_caption_says_n_and_what_the_spread_is(values: dict[str, Any]) -> None:
    assert "Mean $\\pm$ sample standard deviation over seeds, n = 5." in export_table(Results.of_json(values))
    lost = {**values, "rows": [{**row, "n": 4} if row["method"] == "erk" else row for row in values["rows"]]}
    text = export_table(Results.of_json({**lost, "complete": False}))
    assert "n = 4 to 5. In parentheses: n." in text
    assert "The run is not complete." in text
    assert "(4) \\\\" in text
    single = export_table(Results.of_json(sample_results(seeds=1)))
    assert "One seed, so without spread (n = 1)." in single
    assert "$\\pm$" not in single
    scaled = Results.of_json({**values, "scale": {"epochs": [200, 1]}})
    assert "Scaled down: 1 of 200 epochs of dense training." in export_table(scaled, "cost", "markdown")
    assert "In brackets: 95~\\% intervals over seeds, n = 5." in export_table(scaled, "gap_closed")


@pytest.mark.parametrize(("factor", "digits"), [(1.0, 2), (0.01, 4), (100.0, 0)])
def test_digits_follow_the_spread(values: dict[str, Any], factor: float, digits: int) -> None:
    rows = [{**row, "sd": 0.4 * factor} for row in values["rows"]]
    found = export_table(Results.of_json({**values, "rows": rows}), "accuracy", "markdown")
    lth = next(line for line in found.splitlines() if line.startswith("| LTH"))
    mean = next(row["mean"] for row in values["rows"] if (row["method"], row["metric"]) == ("lth", "accuracy"))
    assert f"{mean:.{digits}f} ± {0.4 * factor:.{digits}f} |" in lth


def test_csv_is_that_of_the_run_folder(results: Results) -> None:
    tables = all_tables(results)
    for name in (GRID, "accuracy", "differences", "barriers"):
        text = export_table(results, name, "csv")
        assert text == tables["accuracy" if name == GRID else name].to_csv()
        assert len(list(csv.DictReader(io.StringIO(text)))) > 3


@given(st.text(max_size=12))
def test_any_text_is_one_line_of_plain_latex(text: str) -> None:
    found = escaped(text)
    assert "\n" not in found
    plain = re.sub(r"\\[{}&%$#_]|\\text\w+\{\}|\\ldots\{\}|\$\\?[\w<>|-]+\$|\{\[\}|\{\*\}|\{\}", "", found)
    assert not set(plain) & set("\\{}$&#_^%[*")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(results: Results, tmp_path: Path) -> None:
    awkward = latex_table(
        [[LatexCell(""), LatexCell(AWKWARD[0], 2)], [LatexCell(name) for name in AWKWARD[:3]]],
        [[LatexCell(name, bold=True), LatexCell(name), LatexCell("1.0 ± 0.1")] for name in AWKWARD],
        " ".join(AWKWARD),
        AWKWARD[0],
    )
    tables = [awkward, export_table(results, bold=True), export_table(results, "exemplars")]
    document = ["\\documentclass{article}", "\\usepackage{booktabs}", "\\begin{document}", *tables, "\\end{document}"]
    (tmp_path / "tables.tex").write_text("\n".join(document), "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.findall(r"^LaTeX Warning: (?!Label|There|Float)|^Missing character", done.stdout, re.MULTILINE)


def test_what_cannot_be_exported_is_one_sentence(results: Results) -> None:
    with pytest.raises(InputError, match=r"the run has no table 'acuracy', did you mean 'accuracy'\?"):
        export_table(results, "acuracy")
    with pytest.raises(InputError, match=r"no table 'xyzw'; it has accuracy_grid, accuracy, loss, gap_closed"):
        export_table(results, "xyzw")
    with pytest.raises(InputError, match=r"no table 'accuracy_grid'; it has no results yet"):
        export_table(Results.of_json({"schema": 1}))
    with pytest.raises(
        ConfigError, match=r"unknown format 'latx', did you mean 'latex'\?; known are latex, markdown, csv"
    ):
        export_table(results, GRID, "latx")
    for table, form in (("loss", "latex"), (GRID, "csv")):
        with pytest.raises(
            ConfigError, match=f"--bold marks the best methods of accuracy_grid .*, not {table} as {form}"
        ):
            export_table(results, table, form, bold=True)
    assert set(FORMATS) == {"latex", "markdown", "csv"}


def test_a_sweep_has_experiments_to_export(tmp_path: Path) -> None:
    write_run(tmp_path / "width-1", sample_results(seeds=2))
    sweep = {"title": "t", "key": "model.width", "variants": [{"value": 1, "folder": "width-1"}]}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    with pytest.raises(InputError, match=r"is a sweep; export a table of one of its experiments: .*width-1$"):
        export_table(Results.load(tmp_path))


def test_letters_beyond_latin_name_the_engines_that_have_them() -> None:
    first = latex_table([[LatexCell("naïve")]], [], "", "x").partition("\n")[0]
    assert first == "% needs \\usepackage{booktabs}"
    first = latex_table([[LatexCell("猫")]], [], "", "x").partition("\n")[0]
    assert first == "% needs \\usepackage{booktabs}, and LuaLaTeX or XeLaTeX for its letters"
