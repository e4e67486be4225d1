"""What the wide sweep is given: a model as data, how to build it, and its inputs at any batch and size."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Generator, Tensor, nn

Size: TypeAlias = int | tuple[int, int]  # side (or height and width) of images, length of texts, samples of sounds
LABELS, WORDS = 5, 53


class Entry(Protocol):
    """A model of the sweep; its `repr` says all that decides it."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def size(self) -> Size: ...
    @property
    def others(self) -> tuple[Size, ...]: ...
    def build(self) -> nn.Module: ...
    def inputs(self, batch: int, size: Size, generator: Generator) -> Any: ...


@dataclass(frozen=True)
class Timm:
    """A model of timm with random weights.

    Args:
        name: its name there.
        size: side of the example images, in pixels.
        others: sizes at which its symmetry is checked besides.
        options: what `timm.create_model` is given besides the number of classes.
    """

    name: str
    size: Size = 32
    others: tuple[Size, ...] = (64, (64, 32))
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="timm", init=False)

    def build(self) -> nn.Module:
        """Return the model, without any download."""
        import timm

        return timm.create_model(self.name, pretrained=False, num_classes=LABELS, **self.options)

    def inputs(self, batch: int, size: Size, generator: Generator) -> Any:
        """Return images."""
        return images(batch, size, 3, generator)


class Answer(nn.Module):
    """A model of which one output is looked at; any other, as the last hidden state, would pin the axes it shows."""

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, **inputs: Tensor) -> Tensor:
        return getattr(self.model(**inputs), self.output)


@dataclass(frozen=True)
class Family:
    """A tiny model of transformers, made from its configuration.

    Args:
        name: what the page calls it.
        head: name of its class.
        config: name of the class of its configuration.
        options: what the configuration is given.
        reads: the kinds of its inputs, by keyword: "words", "ones" (a mask), "image", "sound", ("frames", bands) as
            spectrograms with time last, ("steps", bands) with time before, each followed by its size where that is
            fixed, or ("constant", value).
        size: size of the example's inputs.
        others: sizes at which its symmetry is checked besides.
        output: the output that is looked at.
    """

    name: str
    head: str
    config: str
    options: Mapping[str, Any]
    reads: Mapping[str, Any] = field(default_factory=lambda: {"input_ids": "words"})
    size: Size = 7
    others: tuple[Size, ...] = (5, 12, 19)
    output: str = "logits"
    source: str = field(default="transformers", init=False)

    def build(self) -> nn.Module:
        """Return the model, without any download."""
        import transformers

        config = getattr(transformers, self.config)(**self.options)
        config.use_cache = False
        return Answer(getattr(transformers, self.head)(config), self.output)

    def inputs(self, batch: int, size: Size, generator: Generator) -> Any:
        """Return inputs by keyword; those of a fixed size carry it in their kind."""
        return {keyword: _drawn(kind, batch, size, generator) for keyword, kind in self.reads.items()}


def images(batch: int, size: Size, channels: int, generator: Generator) -> Tensor:
    """Return normal numbers of shape (batch, channels, height, width)."""
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(batch, channels, height, width, generator=generator)


def _drawn(kind: Any, batch: int, size: Size, generator: Generator) -> Any:
    what, *rest = (kind,) if isinstance(kind, str) else kind
    if what == "constant":
        return rest[0]
    if what == "image":
        return images(batch, rest[0] if rest else size, 3, generator)
    length = size if isinstance(size, int) else size[0]
    if what == "words":
        return torch.randint(3, WORDS, (batch, rest[0] if rest else length), generator=generator)
    if what == "ones":
        return torch.ones(batch, length, dtype=torch.long)
    if what == "sound":
        return torch.randn(batch, length, generator=generator)
    assert what in ("frames", "steps"), what
    bands, fixed = rest if len(rest) == 2 else (*rest, length)
    shape = (batch, bands, fixed) if what == "frames" else (batch, fixed, bands)
    return torch.randn(*shape, generator=generator)
