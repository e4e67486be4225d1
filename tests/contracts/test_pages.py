"""The pages agree with the code: every python block runs, and every module and function that one names is there."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from reticket.bench import bench_tasks
from reticket.cli.listing import KINDS
from reticket.data.registry import DATASETS
from reticket.experiment import EXECUTORS, LOGGERS, STORES
from reticket.matching import MATCHERS
from reticket.models.registry import MODELS
from reticket.records import record_of
from reticket.symmetry.rules import RULES
from reticket.tasks import declared
from reticket.tasks.check import checks
from reticket.tasks.config import is_key
from reticket.tasks.presets import load_config
from reticket.tasks.results import results_model
from reticket.tickets import CRITERIA
from reticket.tickets.dynamics import DYNAMICS
from reticket.tickets.methods import METHODS
from reticket.training import AUGMENTATIONS, OPTIMISERS

ROOT = Path(__file__).parents[2]
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = {page: [code for mark, code in BLOCK.findall(text) if not mark] for page, text in TEXTS.items()}
NOT_RUN = {"docs/results-format.md": 1, "docs/loops.md": 5}  # by page, how many blocks say that they cannot be run here
PACKAGES = (
    "analysis|cli|connectivity|data|experiment|figures|forward|integrations|matching|models|objectives|report|symmetry|"
    "tasks|tickets|training|weight_files|workflow"
)
NAMED = re.compile(rf"(?<![\w./\-])(?:reticket\.)?((?:{PACKAGES})(?:\.[A-Za-z_]\w*)+)(?![\w/=])")
FILES = ("html", "json", "py", "md", "svg", "toml")
REGISTRIES = (
    AUGMENTATIONS, CRITERIA, DATASETS, DYNAMICS, EXECUTORS, LOGGERS, MATCHERS, METHODS, MODELS, OPTIMISERS, STORES,
    declared.CHECKS,
)  # fmt: skip


def train_as_it_says(names: Mapping[str, Any]) -> None:
    assert [sorted(row) for row in names["table"].rows] == [["accuracy", "loss", "lr", "step"]] * 3
    assert sum(int(kept.sum()) for kept in names["result"].mask.values()) == names["mask"].kept
    assert any(not torch.equal(names["mask"][name], kept) for name, kept in names["result"].mask.items())


AFTERWARDS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {"docs/training.md": train_as_it_says}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """Return a module for the code of a page, whose members are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    checks()  # the package's own
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_members", dict(registry._members))
    rules, page = dict(RULES), ModuleType("code_of_a_page")
    monkeypatch.setitem(sys.modules, page.__name__, page)
    yield page
    RULES.clear()
    RULES.update(rules)
    declared.declared.cache_clear()


@pytest.mark.parametrize("page", [page for page, blocks in RUN.items() if blocks])
def test_the_code_of_a_page_runs(page: str, module: ModuleType) -> None:
    for block in RUN[page]:
        exec(compile(block, page, "exec"), module.__dict__)
    AFTERWARDS.get(page, lambda names: None)(module.__dict__)


def test_every_block_is_run_or_says_why_not() -> None:
    marked = {page: sum(bool(mark) for mark, _ in BLOCK.findall(text)) for page, text in TEXTS.items()}
    assert {page: count for page, count in marked.items() if count} == NOT_RUN
    for page, text in TEXTS.items():
        assert len(re.findall(r"^```(?:python|py)\b", text, re.MULTILINE)) == len(BLOCK.findall(text)), page
    assert sum(map(len, RUN.values())) >= 18


def is_there(name: str) -> bool:
    """Return whether a dotted name below `reticket` is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(("reticket", *parts[:end])))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def is_field(name: str) -> bool:
    """Return whether results have a section of that field, "experiment.metric"."""
    section, _, rest = name.partition(".")
    found = results_model().model_fields.get(section)
    record = None if found is None else record_of(found.annotation)
    return record is not None and rest in record.model_fields


def names_on(page: str) -> set[str]:
    """Return what a page names outside its python blocks, but for files and for keys of configuration and results."""
    found = NAMED.findall(BLOCK.sub("", TEXTS[page]))
    return {name for name in found if name.rpartition(".")[2] not in FILES and not is_key(name) and not is_field(name)}


@pytest.mark.parametrize("page", TEXTS)
def test_every_module_and_function_that_a_page_names_is_there(page: str) -> None:
    assert {name for name in names_on(page) if not is_there(name)} == set()


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", TEXTS[page]):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(str(path.resolve().relative_to(ROOT))), f"{target}#{anchor}"


def test_a_name_that_is_not_there_is_seen() -> None:
    assert {"tasks.running.run_experiment", "symmetry.unify.Solver"} <= names_on("docs/architecture.md")
    assert len(names_on("docs/architecture.md")) > 45
    assert not is_there("tasks.runing.run_experiment")
    assert not is_there("tasks.running.run_experimant")


def test_the_readme_lists_the_kinds_that_there_are_and_counts_no_presets() -> None:
    (kinds,) = re.findall(r"`reticket list (\S+)`", TEXTS["README.md"])
    assert kinds.split("|") == [*KINDS]
    assert not re.search(r"\d+ presets", TEXTS["README.md"])


def test_the_page_of_the_bench_names_the_controls_of_every_task() -> None:
    lines = re.findall(r"^  - ([`\w, -]+): (.+)$", TEXTS["docs/ticketbench.md"], re.MULTILINE)
    said = {
        name: set(re.findall(r"`(.+?)`", controls)) for names, controls in lines for name in names[1:-1].split("`, `")
    }
    known = set().union(*said.values())
    assert {"erk", "imp-b"} < known
    tasks = {name: {*load_config(f"ticketbench-{name}")[1].grid.methods} & known for name in bench_tasks()}
    assert said == tasks
