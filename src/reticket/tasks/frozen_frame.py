"""What an experiment may not do with a frozen frame: move, flip or revive the entries that all its networks share."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reticket.errors import ConfigError, InputError, ModelError
from reticket.models.asymmetric import PARAMETER, Frame
from reticket.tasks.dynamics import may_revive
from reticket.tickets.choice import Choice

OTHERWISE = "or frozen = false there"


def check_frame(params: Mapping[str, Any], frame: str, methods: Iterable[str]) -> None:
    """Refuse what cannot be trained with the fixed entries of a model, before anything is computed.

    "naive-signed" is well: A and B have the same fixed entries, so that their signs are B's own.

    Args:
        params: of the model.
        frame: whose units sparse networks stand in, "init" or "mask".
        methods: of the grid; a text that chooses none is left to who plans it.

    Raises:
        ConfigError: naming the setting that moves, flips or revives fixed entries, or what is wrong with the frame.
    """
    if PARAMETER not in params:
        return
    try:
        frozen = Frame.of(params[PARAMETER]).frozen
    except ModelError as problem:
        raise ConfigError(f"model.params.{problem}") from None
    if frozen and frame == "mask":
        raise ConfigError(
            'grid.frame is "mask", which moves B\'s weights, but the fixed entries of model.params.asymmetric have to '
            f'stay in place; choose "init", {OTHERWISE}'
        )
    for choice in _readable(methods) if frozen else ():
        if may_revive(choice.chosen_dynamics):
            raise ConfigError(
                f"grid.methods: '{choice}' lets pruned weights return, at 0, where a fixed entry of "
                f"model.params.asymmetric would stay for ever; choose dynamics that only prune, as gradual, {OTHERWISE}"
            )
        if _flips(choice):
            raise ConfigError(
                f"grid.methods: '{choice}' gives B's weights the signs of A's moved units, but the fixed entries of "
                f"model.params.asymmetric keep theirs; choose permuted or naive-signed, {OTHERWISE}"
            )


def _flips(choice: Choice) -> bool:
    return choice.method == "signed" and choice.chosen_method.options.settings(choice.options)["share"] > 0


def _readable(methods: Iterable[str]) -> Iterator[Choice]:
    for text in methods:
        try:
            yield Choice.parse(text)
        except InputError:
            continue
