"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[
    str, typer.Argument(metavar="MODEL", help="A preset, a built-in model, timm:NAME or package.module:function.")
]
ModelName = Annotated[str, typer.Option("--model", help="As MODEL of inspect.")]
Shape = Annotated[
    str | None, typer.Option("--input-shape", help="Shape of the example input with its batch axis, as 2,3,224,224.")
]
Vocabulary = Annotated[
    int | None, typer.Option("--vocabulary", min=2, help="The example input is ids below this number, not floats.")
]
WeightsOutput = Annotated[
    str, typer.Option("-o", "--output", help="Where the weights go: .safetensors, or FOLDER/ for the Hub's layout.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the method, as cost=cosine; again for more."),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder of the data.  \\[default: RETICKET_DATA, then the system's place]")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
WEIGHTS_HELP = "a state_dict as .safetensors or .pt, a checkpoint or FILE#KEY of one, or a folder of the Hub"
DATA_HELP = "A data set's name, its folder, or a .npy, .npz or .safetensors file"
