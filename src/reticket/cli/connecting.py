"""What `reticket barrier`, `repair` and `merge` do with the files that a user names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from torch import nn

from reticket.cli.aligning import FilesToMatch, MatchSettings
from reticket.cli.input_files import Examples, check_labels, read_examples
from reticket.cli.models import resolve
from reticket.cli.notes import note
from reticket.connectivity import BarrierCurve, barrier, merge, repair
from reticket.connectivity.merging import How
from reticket.data.source import Split
from reticket.errors import AlignmentError, ConfigError, InputError
from reticket.objectives import chosen_objective
from reticket.symmetry import Alignment
from reticket.weight_files import load_file


@dataclass(frozen=True)
class Ends:
    """Two networks in files.

    Args:
        a, b: the files, as `read_weights` takes them.
        model: as MODEL of the command line.
        alignment: through which A is moved first; None for A as it is.
    """

    a: str | Path
    b: str | Path
    model: str
    alignment: Path | None = None

    def load(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the weights of A, moved, and of B, by the names of their network.

        Args:
            network: of their model; its own weights are lost.

        Raises:
            InputError: for a file that cannot be read or does not fit the model or the alignment.
        """
        alignment = None if self.alignment is None else Alignment.load(self.alignment)
        a, b = (load_file(network, source, say=note) for source in (self.a, self.b))
        if alignment is None:
            return a, b
        try:
            return alignment.apply(a), b
        except AlignmentError as error:
            raise AlignmentError(f"{self.a} cannot be moved through {self.alignment}: {error}") from None


@dataclass(frozen=True)
class LineSettings:
    """How the line between two networks is walked.

    Args:
        data: a data set or a file of examples.
        points: on the line, both ends included.
        loss, metric: by name; None for what the data are made for.
        repair: whether activations are renormalised at every point, on training examples.
        split: which part of a data set the networks are judged on.
        samples: examples at most.

    Raises:
        InputError: for a loss, a metric or a part of a data set that there is not.
    """

    data: str
    points: int = 11
    loss: str | None = None
    metric: str | None = None
    repair: bool = False
    split: str = "test"
    samples: int = 2000

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise ConfigError(f"--split {self.split}: expected a part of a data set, train or test")
        chosen_objective(self.loss, self.metric)


def barrier_files(ends: Ends, how: LineSettings) -> tuple[BarrierCurve, Examples]:
    """Return loss and metric along the line between two networks in files, and what they were judged on.

    Args:
        ends: the networks.
        how: the line is walked.

    Raises:
        InputError: for a file that cannot be read or does not fit, or examples without the labels that the loss needs.
    """
    network, example = resolve(ends.model, required=False)
    examples = read_examples(how.data, ends.model, how.samples, cast("Split", how.split)).like(example)
    check_labels(examples, how.data, how.loss)
    statistics = read_examples(how.data, ends.model, how.samples, "train").like(example).batches if how.repair else None
    a, b = ends.load(network)
    alphas = [step / (how.points - 1) for step in range(how.points)]
    curve = barrier(
        network,
        a,
        b,
        examples.batches,
        alphas,
        loss=how.loss,
        metric=how.metric,
        repair=how.repair,
        repair_batches=statistics,
        progress=True,
    )
    return curve, examples


def repair_files(ends: Ends, alpha: float, data: str, samples: int) -> dict[str, Any]:
    """Return the point of the line between two networks in files with its activations renormalised (REPAIR).

    Args:
        ends: the networks.
        alpha: position on the line: 0 is A, 1 is B.
        data: a data set, whose training part counts, or a file of inputs.
        samples: inputs at most that statistics are taken on.

    Raises:
        InputError: for a file that cannot be read or does not fit.
        ModelError: when the model cannot be repaired.
    """
    network, example = resolve(ends.model, required=False)
    examples = read_examples(data, ends.model, samples, "train").like(example)
    return repair(network, ends.load(network), alpha, examples.batches)


def merge_files(
    sources: Sequence[str | Path],
    how: MatchSettings,
    *,
    weights: str | None = None,
    repaired: bool = True,
    by: str = "mean",
) -> tuple[dict[str, Any], list[Alignment]]:
    """Return the average of networks in files, all matched to one another, and the alignments onto the first.

    Args:
        sources: the files, as `read_weights` takes them, two or more.
        how: they are matched.
        weights: of each in the average as text, "0.5,0.25,0.25"; None for equal ones.
        repaired: whether activations are renormalised (REPAIR) on the data that they are matched on.
        by: "mean" or "least-squares", as `merge` has it.

    Raises:
        InputError: for one file alone, one that cannot be read or does not fit, or weights that are none.
    """
    if len(sources) < 2:
        raise InputError(f"merge got {sources[0]} alone, but two networks or more were expected; name the others too")
    if repaired and how.data is None:
        raise ConfigError(
            "REPAIR looks at inputs, and there are none; name them with --data, or leave it with --no-repair"
        )
    shares = _shares(weights, len(sources))
    files = FilesToMatch(sources, how)
    frame = files.in_one_frame()
    batches = None
    if repaired and how.data is not None:
        batches = read_examples(how.data, how.model, how.samples, "train").like(files.example).batches
    return merge(files.network, files.states, frame, batches, weights=shares, how=cast("How", by)), list(frame)[1:]


def _shares(text: str | None, count: int) -> list[float]:
    """Return the weight of each network.

    >>> _shares(None, 4), _shares("0.75,0.25", 2)
    ([0.25, 0.25, 0.25, 0.25], [0.75, 0.25])
    """
    if text is None:
        return [1 / count] * count
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--weights {text}: expected numbers with commas, for instance 0.5,0.25,0.25") from None
