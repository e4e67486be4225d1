"""`results.json` and the run directory around it: one model that a run writes, a report reads and a user looks into."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Unpack, cast

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, create_model
from torch import Tensor

from reticket.errors import InputError
from reticket.experiment import Result, Store, folder_of, named_store
from reticket.lookup import nearest
from reticket.records import Record, damage
from reticket.symmetry import Alignment
from reticket.tasks.behind import NetworkPlace, alignment_behind, find_result, mask_behind, weights_behind
from reticket.tasks.comparison import Comparison, compare_rows
from reticket.tasks.declared import Declared, declared
from reticket.tasks.ownership import default_store
from reticket.tasks.rows import Cost, Difference, Experiment, Failure, Gap, Row
from reticket.tasks.run_files import read_json, read_sweep_file, read_toml
from reticket.tickets import Mask

SCHEMA = 1
R = TypeVar("R", bound=Record)


class Results(Record):
    """What a run found: `results.json`, with the store of weights behind it.

    Sections that a check writes are fields like the others; `of` gives them by the check's record.

    >>> results = Results.of_json({"schema": 1, "rows": [{"method": "lth", "sparsity": 0.9, "n": 1, "mean": 97.0}]})
    >>> results.rows[0].mean, results.records()[0]["method"]
    (97.0, 'lth')
    """

    schema_version: int = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema", description="version of this format"
    )
    title: str = Field(default="experiment", description="of the experiment, in words")
    preset: str = Field(default="", description="short name of the preset or file")
    scale: Mapping[str, tuple[Any, Any]] = Field(default={}, description="what was made smaller, before and after")
    complete: bool = Field(default=True, description="whether nothing is missing and nothing failed")
    experiment: Experiment = Field(default=Experiment(), description="what was trained")
    rows: tuple[Row, ...] = Field(default=(), description="the table: accuracy and loss of every cell")
    gap_closed: tuple[Gap, ...] = Field(default=(), description="shares of the LTH - naive gap")
    differences: tuple[Difference, ...] = Field(default=(), description="LTH > permuted > naive, step by step")
    cost: tuple[Cost, ...] = Field(default=(), description="work by kind of task")
    failures: tuple[Failure, ...] = Field(default=(), description="what went wrong")
    environment: Mapping[str, Any] = Field(
        default={}, description="where it was computed: versions, processor, threads"
    )
    _folder: Path | None = PrivateAttr(None)
    _store: str | Path | Store | None = PrivateAttr(None)
    _variants: Mapping[str, "Results"] = PrivateAttr({})

    def __repr_args__(self) -> Iterable[tuple[str, Any]]:
        """Return what stands in the repr: a line, where the rows would be pages."""
        yield "title", self.title
        yield "rows", len(self.rows)
        yield "complete", self.complete
        yield "failures", len(self.failures)
        if self._variants:
            yield "variants", list(self._variants)
        if self._folder is not None:
            yield "folder", str(self._folder)

    # ---------------------------------------------------------------- reading

    @staticmethod
    def of_json(values: Mapping[str, Any], source: str = "results") -> "Results":
        """Return results from the content of `results.json`; what is null is what is missing.

        Args:
            values: the content.
            source: where it comes from; named in errors.

        Raises:
            InputError: for another schema, an unknown key (with the nearest right one) or a damaged value.
        """
        if values.get("schema") != SCHEMA:
            seen = values.get("schema")
            raise InputError(f"{source}: has schema {seen!r}, this version reads schema {SCHEMA}; run it again")
        try:
            return results_model().model_validate({key: value for key, value in values.items() if value is not None})
        except ValidationError as error:
            raise InputError(f"{source}: {damage(error, results_model())}; run it again") from None

    @staticmethod
    def load(run_dir: str | Path, *, store: str | Path | Store | None = None) -> "Results":
        """Return the results of a run; those of a sweep hold the results of its experiments as `variants`.

        Args:
            run_dir: the directory that `reticket run` wrote.
            store: of the weights, its directory or `NAME:TEXT`; `run_dir/store`, or the sweep's, when None.

        Raises:
            InputError: when the directory or `results.json` is missing or damaged.

        >>> Results.load("runs/nowhere")
        Traceback (most recent call last):
            ...
        reticket.errors.InputError: runs/nowhere: no such directory; give the directory that `reticket run` wrote
        """
        folder = Path(run_dir)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such directory; give the directory that `reticket run` wrote")
        return (_sweep_of if (folder / "sweep.json").is_file() else _run_of)(folder, store)

    @property
    def folder(self) -> Path:
        """The run directory, with `report.html`, `figures` and `tables`.

        Raises:
            InputError: when these results were not loaded from a run.
        """
        if self._folder is None:
            raise InputError("these results were not loaded from a run, so they have no folder; use Results.load")
        return self._folder

    @property
    def variants(self) -> Mapping[str, "Results"]:
        """By folder below the run directory ("width-4"), the results of a sweep's experiments; else none."""
        return self._variants

    def to_json(self) -> dict[str, Any]:
        """Return the content of `results.json`."""
        return self.model_dump(mode="json", by_alias=True)

    # ---------------------------------------------------------------- sections

    def of(self, record: type[R]) -> tuple[R, ...]:
        """Return the rows of a check's section by their record, `results.of(Barrier)`."""
        name = next(name for name, written in sections().items() if written is record)
        found = getattr(self, name)
        return cast(tuple[R, ...], found if isinstance(found, tuple) else () if found is None else (found,))

    def records(self, section: str = "rows") -> list[dict[str, Any]]:
        """Return the rows of a section as plain dicts.

        Args:
            section: "rows" (the table), or any other that holds rows: "barriers", "overlap", ...

        Raises:
            InputError: for an unknown section, with the nearest right one.

        >>> Results.of_json({"schema": 1}).records("gap_closd")
        Traceback (most recent call last):
            ...
        reticket.errors.InputError: results have no section 'gap_closd', did you mean 'gap_closed'?
        """
        fields = type(self).model_fields
        known = [name for name in fields if isinstance(getattr(self, name), tuple)]
        if section not in known:
            hint = nearest(section, known) or f"; they have {', '.join(known)}"
            raise InputError(f"results have no section '{section}'{hint}")
        return [row.model_dump(mode="json", by_alias=True) for row in getattr(self, section)]

    def to_pandas(self, section: str = "rows") -> Any:
        """Return the rows of a section as a `pandas.DataFrame`.

        Args:
            section: as for `records`.

        Raises:
            InputError: when pandas is not installed, or the section is unknown.
        """
        try:
            import pandas  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise InputError("to_pandas needs pandas, which is not installed; install it, or use records()") from None
        return pandas.DataFrame(self.records(section))

    # ---------------------------------------------------------------- what stands behind a cell

    def result(self, **place: Unpack[NetworkPlace]) -> Result:
        """Return the stored result of one network of the table, with its values and all its tensors.

        Args:
            place: `method`, and where needed `sparsity`, `seed`, `rewind` and `match_at`; see `NetworkPlace`.

        Raises:
            InputError: when the table has no such cell or several, no such seed, or the store is not there.
            MissingResult: when the store holds it no more.
        """
        metric = self.experiment.metric.name
        return find_result([row for row in self.rows if row.metric == metric], place, self._weights_store())

    def weights(self, **place: Unpack[NetworkPlace]) -> dict[str, Tensor]:
        """Return the trained weights and buffers of one network of the table, by name.

        Args:
            place: as for `result`: `results.weights(method="permuted", sparsity=0.9, seed=0, rewind="5ep")`.

        Raises:
            InputError, MissingResult: as for `result`.
        """
        return weights_behind(self.result(**place))

    def mask(self, **place: Unpack[NetworkPlace]) -> Mask:
        """Return the mask with which one network of the table was trained.

        Args:
            place: as for `result`.

        Raises:
            InputError, MissingResult: as for `result`, and for a dense network.
        """
        return mask_behind(self.result(**place))

    def alignment(self, **place: Unpack[NetworkPlace]) -> Alignment:
        """Return the alignment of A onto B through which one network's ticket was moved.

        Args:
            place: as for `result`.

        Raises:
            InputError, MissingResult: as for `result`, and for a method that uses no alignment.
        """
        return alignment_behind(self.result(**place), self._weights_store())

    def _weights_store(self) -> Store:
        if self._store is None:
            why = "these results were not loaded from a run"
        elif isinstance(self._store, str | Path) and (folder := folder_of(self._store)) and not folder.is_dir():
            why = f"no store at {folder}"
        else:
            return named_store(self._store)
        raise InputError(
            f"{why}, so the networks behind the results are unknown; name the store that the run had, as "
            "Results.load(run_dir, store=...) or --store"
        )

    def compare(self, other: "Results", *, confidence: float = 0.95) -> tuple[Comparison, ...]:
        """Return every cell of either run's table with both values, and how far apart they are.

        Seeds that both runs have are paired where the runs have the same data.

        Args:
            other: another run.
            confidence: of the intervals, in (0, 1).

        >>> values = {"schema": 1, "rows": [{"method": "lth", "sparsity": 0.9, "n": 1, "mean": 97.0, "values": [97.0]}]}
        >>> [one.same for one in Results.of_json(values).compare(Results.of_json(values))]
        [True]
        """
        return compare_rows(self.rows, other.rows, paired=self.same_data(other), confidence=confidence)

    def same_data(self, other: "Results") -> bool:
        """Return whether another run was trained and tested on the same data.

        Args:
            other: the run.
        """
        one, two = (results.experiment for results in (self, other))
        return (one.data, one.train_size) == (two.data, two.train_size)


def sections() -> dict[str, type[Record]]:
    """Return by key of `results.json` the record of every section that a check writes, in the order of the report."""
    return {key: record for check in declared() for key, record in check.sections.items()}


def results_model() -> type[Results]:
    """Return the model of `results.json`: `Results` with a field for every section of a check."""
    return _results_model(declared())


@cache
def _results_model(members: tuple[Declared, ...]) -> type[Results]:
    single = {key for check in members for key in check.single}
    fields: dict[str, Any] = {}
    for key, record in sections().items():
        about = (record.__doc__ or "").strip().partition("\n")[0]
        kind = Annotated[record | None, BeforeValidator(_absent)] if key in single else tuple[record, ...]
        fields[key] = (kind, Field(None if key in single else (), description=about))
    return create_model("Results", __base__=Results, __doc__=Results.__doc__, **fields)


def _absent(value: Any) -> Any:
    return None if value == {} else value  # as a run wrote it that had none


def _run_of(folder: Path, store: str | Path | Store | None) -> Results:
    """Return the results of one experiment, from its `results.json`."""
    path = folder / "results.json"
    if not path.is_file():
        raise InputError(f"{folder}: holds no results.json; run `reticket run` into it first")
    values = read_json(path)
    if "experiment" not in values:  # written before results held it
        config = read_toml(folder / "config.toml")
        known = {name: config[name] for name in Experiment.model_fields if isinstance(config.get(name), dict)}
        values = {**values, "experiment": known}
    found = Results.of_json(values, str(path))
    found = _with_seeds(found, folder)
    found._folder = folder
    found._store = _store_of(folder) if store is None else store
    return found


def _with_seeds(found: Results, folder: Path) -> Results:
    """Return results whose rows name their seeds: those of the configuration where rows were written without them."""
    if not found.rows or any(row.seeds for row in found.rows):
        return found
    table = read_toml(folder / "config.toml").get("grid")
    seeds = table.get("seeds") if isinstance(table, dict) else None
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        return found
    rows = (row.model_copy(update={"seeds": tuple(seeds)}) if row.n == len(seeds) else row for row in found.rows)
    return found.model_copy(update={"rows": tuple(rows)})


def _sweep_of(folder: Path, store: str | Path | Store | None) -> Results:
    """Return the results of a sweep: a table of its own it has none, but what failed in any of its experiments."""
    file = read_sweep_file(folder)
    variants = {name: _run_of(folder / name, store) for name in file.values}
    found = results_model()(
        title=file.title,
        preset=file.preset,
        complete=not file.missing and all(variant.complete for variant in variants.values()),
        failures=tuple(dict.fromkeys(failure for variant in variants.values() for failure in variant.failures)),
    )
    found._folder, found._variants = folder, variants
    return found


def _store_of(folder: Path) -> Path:
    """Return where a run keeps its weights: beside its results, or above them where it is one of a sweep."""
    store = default_store(folder)
    return folder.parent / "store" if not store.is_dir() and (folder.parent / "sweep.json").is_file() else store
