"""Moving what an optimizer keeps for each parameter, or refusing: an equal shape alone proves no equal layout."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from reticket.errors import AlignmentError
from reticket.nested import tensors_in

# what torch's and other optimizers keep entry by entry; only these are believed where a factor has the same shape
ENTRY_BY_ENTRY = frozenset(
    [
        *("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "grad_avg", "acc_delta", "sum"),
        *("ax", "prev", "step_size", "exp_inf", "variance", "exp_avg_slow", "exp_avg_diff", "neg_pre_grad", "z"),
        *("lookahead_slow_buff", "slow_buffer", "slow_param", "ema", "max_exp_avg", "exp_avg_var", "exp_avg_sq_max"),
    ]
)
MoveParameter = Callable[[str, Tensor], Tensor]  # (name of the parameter, tensor of its layout) -> moved
AFRESH = "it cannot be permuted, so start that optimizer afresh"


def moved_optimizer(
    state: Mapping[str, Any],
    names: Sequence[str] | None,
    shape_of: Callable[[str], tuple[int, ...] | None],
    move: MoveParameter,
) -> dict[str, Any]:
    """Return `optimizer.state_dict()` with what it holds for each parameter moved like the parameter.

    Moved is a tensor of the parameter's shape, also inside lists, tuples and dicts; single numbers and plain values
    stay. Refused is everything else: flat vectors (LBFGS), factors of one axis (Adafactor, Shampoo, SOAP), objects. A
    square parameter's shape is also that of a factor of one axis: there only names known to be kept entry by entry are
    believed.

    Args:
        state: as the optimizer returns it.
        names: names of the parameters in order, for a state without `param_names`.
        shape_of: shape of the parameter of a name, None when it is unknown.
        move: moves a tensor like the parameter of a name.

    Raises:
        AlignmentError: names what cannot be moved.
    """
    owner = _parameter_names(state["param_groups"], names)
    for key in state:
        if key != "state" and (found := next((t for t in tensors_in(state[key]) if t.numel() > 1), None)) is not None:
            raise AlignmentError(
                f"optimizer state '{key}' holds a tensor of shape {tuple(found.shape)} that belongs to no one "
                f"parameter, expected single numbers there; {AFRESH}"
            )
    result = {key: value if key == "state" else copy.deepcopy(value) for key, value in state.items()}
    result["state"] = {}
    for key, slots in state["state"].items():
        if key not in owner:
            raise AlignmentError(f"the optimizer holds state for parameter {key}, which no param_group lists")
        result["state"][key] = _Slots(owner[key], shape_of(owner[key]), move).moved(slots)
    return result


class _Slots:
    """What is held for one parameter."""

    def __init__(self, name: str, shape: tuple[int, ...] | None, move: MoveParameter) -> None:
        self.name, self.shape, self.move = name, shape, move
        self.square = shape is not None and len(shape) == 2 and shape[0] == shape[1] > 1

    def moved(self, slots: Any) -> Any:
        if not isinstance(slots, Mapping):
            return self.value("state", slots)
        return {slot: self.value(str(slot), value, known=slot in ENTRY_BY_ENTRY) for slot, value in slots.items()}

    def value(self, slot: str, value: Any, *, known: bool = False) -> Any:
        if isinstance(value, Tensor):
            return self.tensor(slot, value, known)
        if value is None or isinstance(value, bool | int | float | complex | str):
            return value
        if isinstance(value, Mapping):
            return {key: self.value(f"{slot}[{key!r}]", item) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.value(f"{slot}[{i}]", item) for i, item in enumerate(value))
        raise AlignmentError(
            f"optimizer state '{slot}' of '{self.name}' is a {type(value).__name__}, expected numbers and tensors; "
            f"{AFRESH}"
        )

    def tensor(self, slot: str, value: Tensor, known: bool) -> Tensor:
        if value.numel() == 1 and tuple(value.shape) != self.shape:
            return value.detach().clone()
        if self.shape is not None and tuple(value.shape) != self.shape:
            raise AlignmentError(
                f"optimizer state '{slot}' of '{self.name}' has shape {tuple(value.shape)}, expected a scalar or "
                f"{self.shape}; {AFRESH}"
            )
        if self.square and not known:
            raise AlignmentError(
                f"optimizer state '{slot}' of '{self.name}' has shape {tuple(value.shape)}, which is that of the "
                f"weight and of a factor of one axis alike, expected a name that says which; {AFRESH}"
            )
        return self.move(self.name, value)


def _parameter_names(groups: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> dict[Any, str]:
    keys = [key for group in groups for key in group["params"]]
    if names is None:
        named = [name for group in groups for name in group.get("param_names", ())]
        if len(named) != len(keys):
            raise AlignmentError(
                "the optimizer's state does not name its parameters: build the optimizer from model.named_parameters() "
                "or pass names=[...] in the order of its parameters"
            )
        names = named
    if len(names) != len(keys):
        raise AlignmentError(f"names= has {len(names)} names for {len(keys)} parameters of the optimizer")
    return dict(zip(keys, names, strict=True))
