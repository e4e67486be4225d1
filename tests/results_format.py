"""`docs/results-format.md`, every field of `results.json` with its unit, from the models that write and read it.

`python -m tests.results_format` writes the page; a test holds it against the models.
"""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from reticket.records import Stat, fields_of, record_of
from reticket.tasks.results import SCHEMA, results_model

PAGE = Path(__file__).parents[1] / "docs" / "results-format.md"
HEAD = f"""# The format of results.json

Schema {SCHEMA}, as `reticket run` writes it and `rt.Results.load` reads it; `python -m tests.results_format` wrote this
page from the models. A key that is not here is refused, with the nearest one that is; a key that is missing has its
default, null or nothing. Accuracies are in percent of the test images, losses in nats, sparsities are fractions.

<!-- not run: it reads a finished run -->
```python
results = rt.Results.load("runs/digits")  # what rt.run("digits") returns
results.folder / "report.html"  # of a sweep, results.variants["width-4"] are those of one experiment
results.records()  # the table: a dict for each metric of each cell; records("barriers") and so on
results.to_pandas("gap_closed")  # the same as a pandas.DataFrame, where pandas is installed
results.weights(method="permuted", sparsity=0.98, rewind="5ep", seed=0)  # so do mask, alignment and result
results.compare(rt.Results.load("runs/other"))  # cell by cell: the difference, paired by seed, and its interval
```
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD, _section("results.json", results_model())]
    parts += [_section(f"`{key}`", record) for key, record in _records(results_model())]
    parts.append(_section("measured", Stat))
    return "\n".join(parts)


def _records(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every record inside a model, by where it stands."""
    for name, field in model.model_fields.items():
        record = record_of(field.annotation)
        if record is not None and record is not Stat:
            yield f"{prefix}{name}", record
            yield from _records(record, f"{prefix}{name}.")


def _section(title: str, record: type[BaseModel]) -> str:
    about = (record.__doc__ or "").strip().partition("\n")[0]
    rows = [f"| `{key}` | {_kind(record, key)} | {text} |" for key, text in fields_of(record).items()]
    return "\n".join((f"## {title}", about, "", "| key | type | what it is |", "|---|---|---|", *rows, ""))


def _kind(record: type[BaseModel], key: str) -> str:
    field = next(f for name, f in record.model_fields.items() if key in (name, f.serialization_alias))
    return _words(field.annotation)


def _words(annotation: Any) -> str:
    """Return a type in the words of JSON."""
    simple = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Stat: "measured"}
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in simple:
        return simple[annotation]
    if origin is Annotated:
        return _words(inner[0])
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inner))
    return "table"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
