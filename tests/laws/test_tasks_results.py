"""`results.json`: one schema writes and reads it, every field says its unit, and nothing unknown passes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from reticket.errors import InputError
from reticket.records import Stat, fields_of, record_of
from reticket.tasks.checks.barriers.line import Barrier
from reticket.tasks.checks.exemplars.sheet import Sheet
from reticket.tasks.results import Results, results_model
from reticket.tasks.rows import Priced
from tests.results_format import PAGE, page
from tests.sample_results import sample_results, write_run

ARCHIVE = Path(__file__).parents[2] / "benchmarks" / "results"


def records(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner = {record for field in model.model_fields.values() if (record := record_of(field.annotation))}
    return {model}.union(*(records(record) for record in inner))


def test_what_is_read_is_written_again() -> None:
    values = sample_results(seeds=2, sparsities=(0.9,), rewinds=("0ep",))
    once = Results.of_json(values).to_json()
    assert Results.of_json(once).to_json() == once
    later = dict.fromkeys(Priced.model_fields)  # unknown of a run before there were costs
    assert once["rows"][0] == {**values["rows"][0], "match_at": None, "seeds": [], **later}
    assert [curve["accuracy"] for curve in once["barriers"]] == [curve["accuracy"] for curve in values["barriers"]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rowz": []}, r"^results: unknown key 'rowz', did you mean 'rows'\?; run it again$"),
        ({"barrier": []}, r"unknown key 'barrier', did you mean 'barriers'\?"),
        ({"cost": [{"kind": "a", "secnds": 1}]}, r"unknown key 'cost\.0\.secnds', did you mean 'seconds'\?"),
        (
            {"exemplars": [{"method": "lth", "sparsity": 0.9, "classes": [{"class": "a", "fuond": 1, "images": 2}]}]},
            r"unknown key 'exemplars\.0\.classes\.0\.fuond', did you mean 'found'\?",
        ),
        ({"rows": [{"method": "lth", "sparsity": "high"}]}, r"damaged at 'rows\.0\.sparsity'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Results.of_json({"schema": 1, **values})


def test_every_field_says_what_it_is() -> None:
    silent = [
        f"{record.__name__}.{key}"
        for record in records(results_model()) | {Stat}
        for key, text in fields_of(record).items()
        if len(text) < 4
    ]
    assert silent == []


def test_the_page_of_the_format_is_that_of_the_models() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m tests.results_format"


@pytest.mark.parametrize("name", ["digits", "fashion-conv", "fashion-mlp", "cifar10-small"])
def test_results_of_earlier_versions_are_read(name: str) -> None:
    values = json.loads((ARCHIVE / f"{name}.json").read_text())
    found = Results.of_json(values)
    assert [row["mean"] for row in found.records()] == [row["mean"] for row in values["rows"]]


def test_sections_by_record_and_by_name(tmp_path: Path) -> None:
    values = sample_results(seeds=2)
    found = Results.load(write_run(tmp_path, values))
    assert [one.pair for one in found.of(Barrier)] == [one["pair"] for one in values["barriers"]]
    assert found.of(Sheet) == ()
    assert found.records("per_class")[0]["class"] == values["per_class"][0]["class"]
    with pytest.raises(InputError, match=r"no section 'barier', did you mean 'barriers'\?"):
        found.records("barier")


def test_two_runs_are_compared_cell_by_cell() -> None:
    cells = [{"method": name, "sparsity": 0.9, "n": 2, "mean": mean, "values": [mean, mean]}
             for name, mean in (("lth", 97.0), ("naive", 95.0))]  # fmt: skip
    here = Results.of_json({"schema": 1, "rows": cells})
    other = [{**cells[0], "mean": 96.0, "values": [96.0, 96.0]}, {**cells[0], "sparsity": 0.95}]
    found = here.compare(Results.of_json({"schema": 1, "rows": other}))
    assert [(one.method, one.sparsity, one.difference, one.same) for one in found] == [
        ("lth", 0.9, 1.0, False), ("naive", 0.9, None, False), ("lth", 0.95, None, False),
    ]  # fmt: skip
    assert found[1].there is None
    assert found[2].here is None
    assert all(one.same for one in here.compare(here))


def test_weights_behind_results_of_no_run_are_asked_for() -> None:
    with pytest.raises(InputError, match=r"were not loaded from a run, .* as Results\.load\(run_dir, store=\.\.\.\)"):
        Results.of_json({"schema": 1}).weights(method="lth")


def test_results_of_no_run_have_no_folder_and_a_repr_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"were not loaded from a run, so they have no folder; use Results\.load"):
        _ = Results.of_json({"schema": 1}).folder
    found = Results.load(write_run(tmp_path, sample_results(seeds=2)))
    assert found.folder == tmp_path
    assert re.fullmatch(r"Results\(title=.*, rows=\d+, complete=True, failures=0, folder='.*'\)", repr(found))


def test_pandas_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InputError, match="to_pandas needs pandas, which is not installed"):
        Results.of_json({"schema": 1}).to_pandas()
