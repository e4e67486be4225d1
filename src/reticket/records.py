"""Records of files that are written and read by one model: frozen, unknown keys refused, units described."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapSerializer,
)

from reticket.lookup import nearest


def _finite(value: Any) -> Any:
    """A number that is not finite is a number that is not there."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _measured(value: Any) -> Any:
    return {} if value is None else value


def _written(stat: "Stat", write: Callable[[Any], Any]) -> Any:
    return write(stat) if stat.n or stat.mean is not None else None


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A number, or None where none is known."""


class Record(BaseModel):
    """What one row of a file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Stat(Record):
    """Mean and sample standard deviation of some values, as `reticket.analysis.Stat` computes them.

    >>> Stat(n=3, mean=92.0, sd=1.0, values=(91.0, 92.0, 93.0)).mean
    92.0
    """

    n: int = Field(default=0, description="how many values")
    mean: Number = Field(default=None, description="their mean")
    sd: Number = Field(default=None, description="their sample standard deviation (ddof 1); null for one value")
    values: tuple[Number, ...] = Field(default=(), description="the values, in the order of the seeds")


Measured = Annotated[Stat, BeforeValidator(_measured), WrapSerializer(_written)]
"""A `Stat`; what is null in a file is one of no values."""


def damage(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one clause on the first thing that is wrong: where it is, and what.

    Args:
        error: of reading a file.
        model: what it should hold.
    """
    errors = error.errors()
    first = next(
        (error for error in errors if error["type"] == "extra_forbidden"), errors[0]
    )  # a slip leaves a gap too
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'{nearest(str(first['loc'][-1]), _keys_at(model, first['loc'][:-1]))}"
    return f"damaged at '{where}' ({first['msg']})"


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a record may have at a place inside a file."""
    for part in place:
        if isinstance(part, str):
            fields = {field.serialization_alias or name: field for name, field in model.model_fields.items()}
            found = record_of(fields[part].annotation) if part in fields else None
            model = found or model
    return [field.serialization_alias or name for name, field in model.model_fields.items()]


def record_of(annotation: Any) -> type[BaseModel] | None:
    """Return the record that a field's type holds, alone or many of it; None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((found for part in inner if (found := record_of(part)) is not None), None)


def fields_of(record: type[BaseModel]) -> Mapping[str, str]:
    """Return by key what a record holds, with its unit.

    >>> fields_of(Stat)["n"]
    'how many values'
    """
    return {field.serialization_alias or name: field.description or "" for name, field in record.model_fields.items()}
