"""torch's global generators as one training run sees them: dropout draws from them, and nothing else decides it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType

import torch
from torch import Tensor

from reticket.errors import TrainingError
from reticket.rng import are_shared, global_generators, global_state, seed_for


class Randomness:
    """Seeds the global generators for a run, and puts them back at its end.

    Where several threads train side by side, a model that draws nothing in its first step lets the others have the
    generators; one that draws keeps them to its end, so that such models train one after another.

    Args:
        device: of the model.
        labels: decide what is drawn.
    """

    def __init__(self, device: torch.device, labels: tuple[str | int, ...]) -> None:
        self._device, self._labels = device, labels
        self._held = ExitStack()
        self._kept: Mapping[str, Tensor] | None = None  # this run's states, once the generators are given back
        self._resting: Mapping[str, Tensor] = {}
        self._before: Mapping[str, Tensor] | None = None
        self.settled = False

    def __enter__(self) -> "Randomness":
        devices = [self._device] if self._device.type == "cuda" else []
        self._held.enter_context(global_generators(devices))
        self._resting = global_state(self._device)
        torch.default_generator.manual_seed(seed_for(*self._labels))
        if devices:
            torch.cuda.manual_seed(seed_for(*self._labels, "cuda"))
        self.settled = not are_shared()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def held(self) -> bool:
        """Whether the generators are this run's still."""
        return self._kept is None

    def state(self) -> Mapping[str, Tensor]:
        """Return the states of the generators as this run has left them."""
        return self._kept or global_state(self._device)

    def before_step(self) -> None:
        """Note where the generators are before the first step."""
        if self._before is None:
            self._before = global_state(self._device)

    def after_step(self) -> None:
        """Give the generators back if the first step drew nothing."""
        now = global_state(self._device)
        self.settled = True
        if self._before is not None and _equal(now, self._before):
            self._kept = now
            self._held.close()

    def check(self) -> None:
        """See that a run which gave the generators back has not drawn from them later.

        Raises:
            TrainingError: when somebody has.
        """
        if self._kept is None:
            return
        with global_generators():  # whoever holds them puts them back before this is ours
            drawn = not _equal(global_state(self._device), self._resting)
        if drawn:
            raise TrainingError(
                "random numbers were drawn from torch's global generator by a model that drew none in its first step; "
                "threads cannot tell whose they are, use --executor processes"
            )


def set_global_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the global generators that a model on `device` may draw from to states of `global_state`.

    Args:
        states: by "cpu" and "cuda"; what is missing stays, and what is of another device is not looked at.
        device: of the model.
    """
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def undisturbed(randomness: Randomness | None, device: torch.device) -> Iterator[None]:
    """Put the global generators back at the end; a run that has given them back draws nothing from them.

    Args:
        randomness: the run's; None where it uses the generators as they are.
        device: of the model.
    """
    if randomness is not None and not randomness.held:
        yield
        return
    before = global_state(device)
    yield
    set_global_state(before, device)


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(state, other[name]) for name, state in one.items())
