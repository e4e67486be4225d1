"""Arguments and options that several commands share."""

from typing import Annotated

import typer

ModelOption = Annotated[
    str, typer.Argument(metavar="MODEL", help="A preset, a built-in model, timm:NAME or package.module:function.")
]
Shape = Annotated[
    str | None, typer.Option("--input-shape", help="Shape of the example input with its batch axis, as 2,3,224,224.")
]
Vocabulary = Annotated[
    int | None, typer.Option("--vocabulary", min=2, help="The example input is ids below this number, not floats.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
