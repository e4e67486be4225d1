"""A whole report from a run directory: what is on the page, what lies beside it, and that it asks for nothing else."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from reticket.figures import drawing
from reticket.figures.spec import Drawn, FigureSpec
from reticket.report import build_report
from reticket.report.story import what_was_run
from reticket.tasks.checks.matching import matching
from reticket.tasks.checks.trust import trust
from reticket.tasks.results import Results
from tests.pdfs import whole_pdfs
from tests.sample_results import METHODS, sample_results, write_run

CHECKS = ("gap_closed", "barriers", "matching", "overlap", "diversity", "per_class", "exemplars")
FIGURES = ("accuracy_by_sparsity", "accuracy_by_rewind", *CHECKS)
TABLES = ("accuracy", "loss", *CHECKS, "differences", "exemplars_by_class", "cost")
OUTSIDE = re.compile(  # a picture whose bytes stand in the page is not outside
    r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']?(?!\#|data:image/png;base64,[\w+/=]+")[^"'>]|@import"""
    r"""|(?<![a-z])url\((?!["']?\#)|://""",
    re.I,
)


class Page(HTMLParser):
    """Collects what a page holds, and checks that its elements are closed in order."""

    VOID = ("meta", "br", "hr", "img", "input", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.pointers: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.pointers += [(value or "")[1:] for name, value in attrs if name == "href"]
        self.pointers += [(value or "")[5:-1] for name, value in attrs if name == "clip-path"]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("run"))
    with whole_pdfs():
        assert build_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(run_dir: Path) -> str:
    return (run_dir / "report.html").read_text("utf-8")


def build(folder: Path, results: dict[str, Any], **config: str) -> Page:
    return Page(build_report(write_run(folder, results, **config)).read_text("utf-8"))


def small(**settings: Any) -> dict[str, Any]:
    """A run of which only the table and the gap are there: quick to draw."""
    results = sample_results(**settings)
    return results | {name: [] for name in ("barriers", "matching", "overlap", "diversity", "per_class", "exemplars")}


def test_page_holds_every_section_and_is_well_formed(page: str) -> None:
    parsed = Page(page)
    sections = ("run", "accuracy", *FIGURES, "cost", "methods", "reproduce")
    assert [name for name in sections if name not in parsed.ids] == []
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {pointer for pointer in parsed.pointers if pointer not in parsed.ids} == set()


def test_page_asks_for_nothing_outside_itself(page: str) -> None:
    assert OUTSIDE.search(page) is None


@pytest.mark.parametrize(
    "leak",
    [
        '<img src="a.png">',
        '<img src="data:text/html;base64,aa">',
        '<img src="data:image/png;base64,aa://b">',
        "<link href='x.css'>",
        "@import 'x'",
        "url(font.woff2)",
        "<a href=https://a>",
        "//cdn://",
    ],
)
def test_the_search_for_outside_references_can_fail(page: str, leak: str) -> None:
    assert OUTSIDE.search(page.replace("</main>", f"{leak}</main>")) is not None


def test_headline_is_computed_from_the_gap(run_dir: Path, page: str) -> None:
    gaps = json.loads((run_dir / "results.json").read_text())["gap_closed"]
    gap = next(g for g in gaps if (g["method"], g["sparsity"], g["rewind"]) == ("permuted", 0.98, "5ep"))
    bounds = f"{gap['share']:.0f} % [{gap['low']:.0f}, {gap['high']:.0f}]"
    where = "At 98 % sparsity, rewound to 5 epochs"
    sentence = f"{where}, the permuted ticket closes {bounds} of the gap between naive and LTH (n = 5)."
    assert sentence in Page(page).text.replace("\u00a0", " ")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_valid_and_name_what_they_show(run_dir: Path, name: str) -> None:
    root = ElementTree.parse(run_dir / "figures" / f"{name}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}text")) > 5
    pdf = (run_dir / "figures" / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert b"CreationDate" not in pdf


@pytest.mark.parametrize("name", TABLES)
def test_tables_exist_in_both_forms(run_dir: Path, name: str) -> None:
    lines = (run_dir / "tables" / f"{name}.md").read_text("utf-8").splitlines()
    with (run_dir / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert len(lines) == len(records) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_accuracy_table_equals_the_results_to_the_last_digit(run_dir: Path) -> None:
    rows = [row for row in json.loads((run_dir / "results.json").read_text())["rows"] if row["metric"] == "accuracy"]
    with (run_dir / "tables" / "accuracy.csv").open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert len(records) == len(rows)
    for record, row in zip(records, rows, strict=True):
        assert (record["method"], record["rewind"]) == (row["method"], row["rewind"] or "")
        for name in ("sparsity", "true_sparsity", "mean", "sd", "n"):
            assert float(record[name]) == row[name]
        assert [float(value) for value in record["values"].split()] == row["values"]


def test_every_panel_says_in_words_what_it_shows(page: str) -> None:
    alts = re.findall(r'<svg[^>]*role="img"[^>]*aria-label="([^"]*)"', page)
    assert len(alts) >= len(FIGURES)
    assert min(map(len, alts)) > 30


def test_methods_are_described_known_or_not(tmp_path: Path) -> None:
    folder = write_run(tmp_path, small(methods=(*METHODS[:6], "mine"), sparsities=(0.9,), rewinds=("0it",)))
    text = Page(build_report(folder).read_text("utf-8")).text
    assert "A method registered by the user." in text
    assert "B rewound, with A's mask as it is" in text


def test_one_seed_has_no_spread_and_no_invented_one(tmp_path: Path) -> None:
    results = small(seeds=1, methods=("dense", "lth", "permuted", "naive"), sparsities=(0.9, 0.98), rewinds=("2ep",))
    text = build(tmp_path, results).text
    table = text[
        text.index("True sparsity counts") : text.index("Accuracy against sparsity", text.index("True sparsity"))
    ]
    assert "n = 1 seed." in text
    assert "One seed, so no spread is shown (n = 1)." in text
    assert "± 1 sd" not in text
    assert "±" not in table
    assert "Accuracy against the rewind point" not in text


def test_a_gap_that_is_not_there_is_not_shared_out(tmp_path: Path) -> None:
    results = small(methods=("lth", "permuted", "naive"), sparsities=(0.5,), rewinds=("0it",))
    for gap in results["gap_closed"]:
        gap.update(gap=0.1, gap_low=-0.4, gap_high=0.5, share=431.0, low=-900.0, high=1400.0)
    text = build(tmp_path, results).text.replace("\u00a0", " ")
    assert "(0.1 points [−0.4, 0.5], n = 5) is not clearly above 0, so no share of it is claimed" in text
    assert "gap closed by the permuted ticket" not in text
    for gap in results["gap_closed"]:
        gap.update(low=None, high=None)
    text = build(tmp_path, results).text
    assert "without intervals, because the gap itself is not clearly above 0 (n = 5)" in text


def test_the_order_is_claimed_where_both_intervals_lie_above_0(tmp_path: Path) -> None:
    results = small(methods=("lth", "permuted", "naive"), sparsities=(0.9, 0.98), rewinds=("5ep",))
    steps = results["differences"]
    for step, low in zip(steps, (0.1, 0.2, 0.3, -0.4), strict=True):
        step.update(low=low, high=2.0, seeds=None if low > 0 else 1234)
    text = build(tmp_path, results).text.replace("\u00a0", " ")
    assert "LTH > permuted > naive holds beyond the noise in 1 of 2 settings." in text
    assert text.count("settled") == 3
    assert "about 1,234" in text
    steps[3].update(low=-2.0, high=-0.1)
    text = build(tmp_path, results).text.replace("\u00a0", " ")
    assert "Below 0, beyond the noise: permuted \u2212 naive at 98 %, rewound to 5 epochs." in text
    assert "Does the order hold?" not in build(tmp_path, results | {"differences": []}).text


def test_missing_values_and_sections_leave_a_readable_page(tmp_path: Path) -> None:
    results = small(sparsities=(0.9, 0.95), rewinds=("0it",))
    results["gap_closed"][0].update(share=None, low=None, high=None)
    results["rows"][0].update(mean=None, sd=None, values=[None])
    results["matching"] = [{"group": "a", "size": 4, "copies": 1, "correlation": None, "margin": None}]
    results["cost"] = [{"kind": "train", "tasks": 1, "model_epochs": None, "seconds": None}]
    results["barriers"] = [{"pair": "A to B", "repair": False, "sparsity": None, "n": 0, "alphas": [0, 1], "loss": []}]
    text = build(tmp_path, results).text
    assert "How well the units were matched" in text
    assert "None" not in text
    assert "nan" not in text.split()


@pytest.mark.parametrize("results", [{"schema": 1}, {"schema": 1, "rows": [], "gap_closed": None}])
def test_an_empty_run_says_so(tmp_path: Path, results: dict[str, Any]) -> None:
    assert "No accuracy has been measured yet." in build(tmp_path, results, config="").text


def test_an_incomplete_run_and_its_failures_stand_at_the_top(tmp_path: Path) -> None:
    results = small(methods=("lth", "naive"), sparsities=(0.9,), rewinds=("0it",)) | {"complete": False}
    results["failures"] = [
        {"label": "sparse seed 3", "error": "loss is nan at '/home/someone/store/ab/x.bin', step 12"}
    ]
    page = build(tmp_path, results)
    head = page.text[: page.text.index("What was run")]
    assert "This run is not complete." in head
    assert "1 task failed" in head
    assert "'…/x.bin', step 12" in head
    assert "someone" not in (tmp_path / "report.html").read_text("utf-8")


def test_folders_of_the_machine_do_not_reach_the_page(tmp_path: Path) -> None:
    results = small(methods=("lth", "naive"), sparsities=(0.9,), rewinds=("0it",))
    write_run(tmp_path, results, 'title = "x"\n[data]\nname = "/home/someone/data/set"\n')
    (tmp_path / "environment.json").write_text(json.dumps({"store": {"root": "/home/someone/run/store"}, "cores": 2}))
    text = build_report(tmp_path).read_text("utf-8")
    assert "store root" in text
    assert "someone" not in text
    assert str(tmp_path) not in text


def test_names_from_the_user_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>&|'
    results = small(methods=("lth", "naive", evil), sparsities=(0.9, 0.98), rewinds=("0it", "1ep"), classes=(evil, "b"))
    results |= {"title": evil, "preset": evil, "failures": [{"label": evil, "error": evil}]}
    results["cost"][0]["kind"] = evil
    results["per_class"] = sample_results(("lth", evil), (0.9,), ("0it",), 2, (evil, "b"))["per_class"]
    page = build(tmp_path, results)
    assert 'alert("x")' not in page.scripts
    assert any("alert(" in text and "\\u003cscript" in text for text in page.scripts)  # in the tables to download
    assert page.text.count('<script>alert("x")</script>&|') >= 5
    lines = (tmp_path / "tables" / "accuracy.md").read_text("utf-8").splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


@pytest.mark.slow
def test_many_methods_with_long_names(tmp_path: Path) -> None:
    methods = ("lth", "permuted", "naive", *(f"registered-method-with-a-long-name-{i}" for i in range(27)))
    results = small(methods=methods, sparsities=(0.5, 0.9, 0.99), rewinds=("0it",), seeds=2)
    text = build(tmp_path, results).text
    assert "12 of 28 methods are drawn; tables/gap_closed.csv holds all." in text
    assert text.count("registered-method-with-a-long-name-26") >= 2


def test_class_names_in_any_script_and_number(tmp_path: Path) -> None:
    names = [f"класс {i}" for i in range(29)] + ["猫"]
    results = sample_results(("lth", "naive"), (0.9,), ("0it",), 2, names)
    text = build(tmp_path, {key: results[key] for key in ("schema", "per_class")}).text
    assert "20 of 30 classes are drawn" in text
    assert "猫" in text


@pytest.mark.slow
def test_building_again_changes_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_run(tmp_path, small(methods=("lth", "permuted", "naive"), sparsities=(0.9, 0.98), rewinds=("0it", "5ep")))
    build_report(tmp_path)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    build_report(tmp_path)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    write_run(tmp_path, small(methods=("lth", "naive"), sparsities=(0.9,), rewinds=("0it",)) | {"gap_closed": []})
    build_report(tmp_path)
    assert not (tmp_path / "figures" / "accuracy_by_rewind.svg").exists()
    assert not (tmp_path / "figures" / "gap_closed.pdf").exists()


def whole(path: Path) -> None:
    """A file of a report is there and ends as it should."""
    content = path.read_bytes()
    ends = {".html": b"</html>", ".svg": b"</svg>", ".pdf": b"%%EOF"}
    empty = path.suffix == ".pdf" and not content  # as tests draw them
    assert empty or content.rstrip().endswith(ends[path.suffix]), path


def test_a_figure_is_replaced_and_never_missing_while_it_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path, small())
    build_report(folder)
    figures = sorted((folder / "figures").iterdir())
    drawn: list[str] = []

    def draw(spec: FigureSpec) -> Drawn:
        for path in figures:
            whole(path)
        drawn.append(spec.name)
        return drawing.draw(spec)

    monkeypatch.setattr("reticket.report.page.draw", draw)
    build_report(folder)
    assert len(drawn) == len(figures) // 2 > 1
    build_report(write_run(tmp_path, small() | {"gap_closed": []}))
    assert not (folder / "figures" / "gap_closed.svg").exists(), "what is no more is removed"


@pytest.mark.slow
def test_several_processes_write_one_report_at_once_and_every_reader_sees_whole_files(tmp_path: Path) -> None:
    folder = write_run(tmp_path, small())
    build_report(folder)
    files = [folder / "report.html", *(folder / "figures").iterdir()]
    tables = {path.name: path.read_text("utf-8") for path in (folder / "tables").iterdir()}
    again = "import sys, pathlib, reticket.report as r; [r.build_report(pathlib.Path(sys.argv[1])) for _ in 'abc']"
    writers = [subprocess.Popen([sys.executable, "-c", again, str(folder)]) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        for path in files:
            whole(path)
        assert {path.name: path.read_text("utf-8") for path in (folder / "tables").glob("[!.]*")} == tables
    assert [writer.returncode for writer in writers] == [0, 0]
    assert not list(folder.rglob("*.part"))


def test_of_an_optimiser_the_story_tells_what_it_is_given_and_its_own_options() -> None:
    def told(**dense: Any) -> str:
        common = {"epochs": 2, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
        return dict(what_was_run({"dense": common | dense}))["Dense training"]

    assert "momentum 0.9, weight decay 0.01" in told()
    adamw = told(optimizer="adamw", optimizer_options={"betas": [0.9, 0.95]})
    assert "2 epochs of adamw" in adamw
    assert "weight decay 0.01, betas (0.9, 0.95)" in adamw
    assert "momentum" not in adamw
    assert "momentum" not in told(optimizer="nowhere:Lost"), "of one that is not there nothing is known"


def test_a_group_has_one_name_and_one_number_of_units_in_every_section(tmp_path: Path) -> None:
    content = sample_results(groups=(("fc1.weight", 128), ("heads.weight", 16)))
    for row in content["matching"]:
        row["copies"] = 4 if row["group"] == "heads.weight" else 1
    content["trust"] = [
        {"group": row["group"], "units": row["size"] * row["copies"], "changed": row["correlation"]}
        for row in content["matching"]
    ]
    results = Results.load(write_run(tmp_path, content))
    matched, trusted = matching(results), trust(results)
    assert matched is not None
    assert trusted is not None
    names = [one.figure.panels[0].draw.keywords["names"] for one in (matched, trusted) if one.figure]  # type: ignore[attr-defined]
    assert names == [["fc1 (128)", "heads (64)"]] * 2
    assert "(fc1)" in matched.caption + " ".join(matched.says)
