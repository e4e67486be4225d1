"""What every table of a configuration is made of: a frozen model that refuses unknown keys, and its units."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Position = Annotated[str, Field(pattern=r"^\d+(it|ep)$")]
"""A point of training before its end: "300it" or "20ep"; 0 is the initialisation."""
PositionOrEnd = Annotated[str, Field(pattern=r"^(\d+(it|ep)|end)$")]
"""A point of training, the end included."""
JoinedPositions = Annotated[str, Field(pattern=r"^(\d+(it|ep)|end)(\+(\d+(it|ep)|end))*$")]
"""A point of training, or several joined by +."""


class Section(BaseModel):
    """One table of a configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)
