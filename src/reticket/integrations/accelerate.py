"""Masked weights that stay exactly 0 on what Accelerate has prepared, and a mask in its saved states."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from reticket import tickets
from reticket.errors import InputError, MaskError
from reticket.tickets import Mask

try:
    import accelerate  # noqa: F401  # pyright: ignore
except ImportError as reason:
    raise InputError(
        "reticket.integrations.accelerate needs the package accelerate; install it with pip install accelerate"
    ) from reason


class _SavedMask:
    """The mask in `accelerator.save_state` and `load_state`."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def state_dict(self) -> dict[str, Tensor]:
        """Return the mask by parameter."""
        return dict(self._mask)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See that the weights which were just loaded belong to this mask: the others of them are 0 by now."""
        if Mask(state) != self._mask:
            raise MaskError(
                "the state was saved under another mask than the one that is held; give sparse the mask of that state"
            )


@contextmanager
def sparse(
    accelerator: Any, model: nn.Module, mask: Mask, optimizer: Optimizer | Iterable[Optimizer]
) -> Iterator[nn.Module]:
    """Keep the masked weights of a prepared model exactly 0 while the block runs, as `reticket.sparse` does.

    Within the block `accelerator.save_state` saves the mask too, and `load_state` sees that it is the same one.

    Args:
        accelerator: the `accelerate.Accelerator` that prepared the model and the optimizer.
        model: as `prepare` returned it.
        mask: which weights are kept, by the names of the model before it was prepared, or after.
        optimizer: as `prepare` returned it, or several.

    Yields:
        The model.

    Raises:
        MaskError: when the mask belongs to another model, or the optimizer holds none of the masked weights.
    """
    saved = _SavedMask(mask)
    accelerator.register_for_checkpointing(saved)
    try:
        with tickets.sparse(model, mask, optimizer):
            yield model
    finally:
        accelerator._custom_objects.remove(saved)  # it has no way to take one back
