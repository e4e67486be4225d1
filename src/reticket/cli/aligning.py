"""What `reticket match`, `transfer` and `apply` do with the files that a user names."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reticket.cli.file_kinds import check_moved
from reticket.cli.input_files import BATCH, read_inputs
from reticket.cli.models import resolve
from reticket.cli.notes import note
from reticket.errors import AlignmentError, InputError
from reticket.matching import MATCHERS, CommonFrame, match, match_many, memory_options
from reticket.nested import parts, tensors_in
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover, load_into
from reticket.symmetry.alignment import resolve_name
from reticket.symmetry.model_tensors import is_extra
from reticket.tasks.key_values import read_options
from reticket.tickets import Ticket, transfer
from reticket.tickets.patterns import follows
from reticket.tickets.sharded import Counted, transfer_shards
from reticket.types import StateDict
from reticket.weight_files import load_file, prefixes_of_all, read_weights
from reticket.weight_files.shards import Shard, Shards, Slot, check_new
from reticket.wrapped import bare


@dataclass(frozen=True)
class MatchSettings:
    """How networks in files are matched.

    Args:
        model: as MODEL of the command line.
        data: a data set or a file of inputs; None for a matcher that looks at no data.
        method: the matcher.
        settings: its options, as `key=value`.
        start: file of an alignment, for a matcher that begins from one.
        samples: inputs to match on at most.
        input_shape: of the example input, as text.
    """

    model: str
    data: str | None = None
    method: str = "activation"
    settings: tuple[str, ...] = ()
    start: Path | None = None
    samples: int = 2000
    input_shape: str | None = None


def match_files(a: str | Path, b: str | Path, how: MatchSettings) -> Alignment:
    """Return the alignment of the weights in file `a` onto those in file `b`.

    Args:
        a, b: the files, as `read_weights` takes them.
        how: by what.

    Raises:
        InputError: for a file that cannot be read or does not fit the model, or an option that the matcher lacks.
    """
    return FilesToMatch((b, a), how).onto_the_first()


class FilesToMatch:
    """Networks in files, with all that it takes to match them.

    Args:
        sources: the files, as `read_weights` takes them.
        how: by what.

    Raises:
        InputError: as `match_files`.

    Attributes:
        network: the first.
        states: the weights of all, by the model's names.
        example: of the model's inputs.
    """

    def __init__(self, sources: Sequence[str | Path], how: MatchSettings) -> None:
        self._method, self._options = how.method, read_options(how.settings)
        MATCHERS.named(how.method).settings(self._options)
        self._start = None if how.start is None else Alignment.load(how.start)
        inputs = None if how.data is None else read_inputs(how.data, how.model, how.samples)
        self.network, self.example = _network(how.model, how.input_shape, inputs)
        self.states = [load_file(self.network, source, say=note) for source in sources]
        load_into(self.network, self.states[0])
        self._batches = None if inputs is None else list(parts(_like(inputs, self.example), BATCH))

    def onto_the_first(self) -> Alignment:
        """Return the alignment of the second onto the first."""
        symmetry = discover(self.network, self.example)
        options: dict[str, Any] = {**memory_options(self._method, "cpu"), "progress": True, **self._options}
        second, first = self.states[1], self.network
        return match(second, first, symmetry, self._batches, method=self._method, start=self._start, **options)

    def in_one_frame(self) -> CommonFrame:
        """Return the alignments of all into one order of units, that of the first; the first moves nothing."""
        symmetry = discover(self.network, self.example)
        options = {**memory_options(self._method, "cpu"), **self._options}
        return match_many([self.network, *self.states[1:]], symmetry, self._batches, self._method, **options)


def apply_file(alignment: Path, weights: str | Path, *, inverse: bool = False) -> dict[str, Any]:
    """Return the weights in a file moved through the alignment in another, by the names that they have there.

    Args:
        alignment: what `reticket match` wrote.
        weights: of the network whose units move, as `read_weights` takes it.
        inverse: whether they move back.

    Raises:
        AlignmentError, InputError: for a file that is no alignment or holds no weights, or when they are of different
            models.
    """
    found = Alignment.load(alignment)
    try:
        return moved_by_name(found.inverse() if inverse else found, read_weights(weights, say=note))
    except AlignmentError as error:
        raise AlignmentError(f"{weights}: {error}") from None


def apply_to_shards(alignment: Path, index: Path, target: Path, *, inverse: bool = False) -> int:
    """Move weights in shards through an alignment, tensor by tensor, into shards of the same layout.

    Args:
        alignment: what `reticket match` wrote.
        index: of the shards.
        target: the folder for the moved ones; it is there when it is whole.
        inverse: whether they move back.

    Returns:
        How many tensors there are.

    Raises:
        AlignmentError, InputError: for a file that is no alignment, a shard that is missing or damaged, weights of
            another model, or when something is in the folder already.
    """
    check_new(target)
    found, shards = Alignment.load(alignment), Shards.open(index)
    found = found.inverse() if inverse else found
    shapes = {slot.name: slot.shape for shard in shards.files for slot in shard.slots}
    moving = {name: bool(shape) and not is_extra(name) for name, shape in shapes.items()}
    places = _places(found.symmetry, moving)
    try:
        for name in shapes:
            if moving[name]:
                found.owner_of(places[name], shapes[name])
    except AlignmentError as error:
        raise AlignmentError(f"{index}: {error}") from None

    def moved(shard: Shard, slot: Slot) -> np.ndarray:
        return (
            found.tensor(places[slot.name], shard.tensor(slot)) if moving[slot.name] else shard.tensor(slot)
        ).numpy()

    shards.rewrite(target, moved)
    return len(shapes)


def moved_by_name(alignment: Alignment, weights: StateDict) -> dict[str, Any]:
    """Return weights moved through an alignment, wrappers and a name before all of theirs looked through.

    Args:
        alignment: of their model.
        weights: by the names of a file.

    Raises:
        AlignmentError: when they are of another model.
    """
    places = _places(alignment.symmetry, {name: _has_axes(name, one) for name, one in weights.items()})
    return {
        name: copy.deepcopy(tensor) if is_extra(name) else alignment.tensor(places[name], tensor)
        for name, tensor in weights.items()
    }


def _places(symmetry: Symmetry, moving: Mapping[str, bool]) -> dict[str, str]:
    """Return what each weight is called in a symmetry; as it is called, where not all are there by one rule.

    Args:
        symmetry: of their model.
        moving: by name, whether a weight has axes that may move.
    """
    for prefix in ("", *prefixes_of_all(moving)):
        inner = {name: name.removeprefix(prefix) for name in moving}
        places = {name: one if resolve_name(symmetry, one) else bare(one) for name, one in inner.items()}
        if all(resolve_name(symmetry, places[name]) for name, moves in moving.items() if moves):
            return places
    return {name: name for name in moving}


def _has_axes(name: str, value: Any) -> bool:
    """Whether a value of a state_dict has axes that may move; one number, as a count of steps, has none."""
    return not is_extra(name) and value.dim() > 0


def _network(model: str, input_shape: str | None, inputs: Tensor | dict[str, Tensor] | None) -> tuple[nn.Module, Any]:
    """Return the network and its example input, which for a model that has none is the first of `inputs`.

    Integers of a file are ids, except bytes, which are pixels; the model's own example input decides where it has one.
    """
    if isinstance(inputs, dict):
        return resolve(model, input_shape, inputs={name: one[:2] for name, one in _like(inputs, None).items()})
    if inputs is None:
        return resolve(model, input_shape)
    ids = not inputs.is_floating_point() and inputs.dtype != torch.uint8
    inputs = inputs if ids else inputs.float()
    network, example = resolve(model, input_shape, inputs=inputs[:2])
    if input_shape is not None and ids:
        example = torch.randint(
            int(inputs.max()) + 1, example.shape, generator=generator_for("example input"), device="cpu"
        )
    return network, example


def _like(inputs: Tensor | dict[str, Tensor], example: Any) -> Any:
    """Return inputs in the type of the example; those that have names as they are, bytes being pixels."""
    if isinstance(inputs, dict):
        return {name: one.float() if one.dtype == torch.uint8 else one for name, one in inputs.items()}
    return inputs.to(next(tensors_in(example)).dtype)


def transfer_to_shards(index: Path, alignment: Path, target: Path) -> Counted:
    """Move a mask or ticket in shards through the alignment in file `alignment`, tensor by tensor.

    Args:
        index: of the shards, as `save_shards` writes it.
        alignment: what `reticket match` wrote.
        target: the folder for the moved shards; it is there when it is whole.

    Returns:
        How many weights it keeps.

    Raises:
        MaskError, AlignmentError, InputError: for a shard that is missing or no mask, a file that is no alignment,
            another model, or when something is in the folder already.
    """
    if target.suffix == ".safetensors":
        raise InputError(f"{target}: a ticket in shards is written as shards into a folder; give a folder with -o")
    check_new(target)
    found = Alignment.load(alignment)
    if found.left_out:
        raise InputError(
            f"the alignment '{alignment}' leaves units out, which takes B's weights and a ticket in one file; match "
            "without leave_out"
        )
    return transfer_shards(index, found, target)


def transfer_file(ticket: Path, alignment: Path, output: Path, weights: str | Path | None = None) -> Ticket:
    """Move the mask or ticket in file `ticket` through the alignment in file `alignment` and write it to `output`.

    Args:
        ticket: what Ticket.save or Mask.save wrote.
        alignment: what `reticket match` wrote.
        output: where the moved ticket goes.
        weights: B's, where the alignment leaves units out.

    Raises:
        MaskError, AlignmentError, InputError: for a file that is no ticket, no alignment or holds no weights, when they
            are of different models, or when weights are missing.
    """
    check_moved(ticket, alignment)
    found = Alignment.load(alignment)
    if found.left_out and weights is None:
        raise InputError(
            f"the alignment '{alignment}' leaves units out, and what is kept of their connections is told by B's "
            "weights; give them as --weights FILE"
        )
    of_b = None if weights is None else read_weights(weights, say=note)
    moved = transfer(Ticket.load(ticket), found, of_b)
    pattern = moved.provenance.get("pattern")
    if isinstance(pattern, str) and not follows(moved.mask, pattern):
        note(f"'{ticket}' was pruned in the pattern {pattern}, which the moved mask has no more: units moved alone")
    moved.save(output)
    return moved
