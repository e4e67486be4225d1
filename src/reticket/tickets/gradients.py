"""Derivatives of a loss by the weights that are pruned, of a model that is left as it was."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from reticket.errors import MaskError, ModelError
from reticket.forward import device_of
from reticket.nested import moved, tensors_in
from reticket.objectives import Objective
from reticket.symmetry.graph import Inputs, quiet
from reticket.symmetry.untouched import untouched
from reticket.wrapped import names_in


@contextmanager
def weights_set(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a model compute with these weights while the block runs; it is then as it was, its random state too.

    Raises:
        MaskError: when a weight is no parameter of the model but computed from others.
    """
    parameters = parameters_named(model, weights)
    with untouched(model):
        for name, parameter in parameters.items():
            parameter.requires_grad_(True)
            parameter.data.copy_(weights[name])
        yield


def gradients(model: nn.Module, weights: Mapping[str, Tensor], objective: Objective, batch: Any) -> dict[str, Tensor]:
    """Return the gradient of the loss by each weight, in the mode that the model is in.

    Args:
        model: computes with the weights.
        weights: those by which it is taken, by name.
        objective: whose mean loss it is.
        batch: on any device; it is moved to the model's.

    Raises:
        MaskError: when the loss does not depend on the weights.
        InputError: when the batch or what the model gives for it does not fit the objective.
    """
    return _slopes(_loss(model, objective, batch), parameters_named(model, weights), create_graph=False)


def curvature(
    model: nn.Module, weights: Mapping[str, Tensor], objective: Objective, batch: Any, direction: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the product of the Hessian of the loss by the weights with a direction.

    Args:
        model: computes with the weights.
        weights: those by which it is taken, by name.
        objective: whose mean loss it is.
        batch: on any device; it is moved to the model's.
        direction: a tensor of its shape for each weight.

    Raises:
        MaskError: as `gradients`.
    """
    parameters = parameters_named(model, weights)
    # neither fused attention nor cuDNN's recurrent layers have second derivatives
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        slopes = _slopes(_loss(model, objective, batch), parameters, create_graph=True)
        along = torch.stack([(slope * direction[name]).sum() for name, slope in slopes.items()]).sum()
        if not along.requires_grad:  # a loss linear in the weights
            return {name: torch.zeros_like(slope) for name, slope in slopes.items()}
        return _slopes(along, parameters, create_graph=False)


def linear_flow(model: nn.Module, weights: Mapping[str, Tensor], example_inputs: Any) -> dict[str, Tensor]:
    """Return dR/d|w| in float64, R the sum of the output for ones, all parameters and buffers by their magnitude.

    Args:
        model: computes with the weights; it is changed, and put back by the block around this call.
        weights: those by which it is taken, by name.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.

    Raises:
        MaskError: when the model gives no floating-point tensor.
        ModelError: when it does not run in float64.
    """
    model.eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.double().abs()
    given = Inputs.of(example_inputs)
    ones = Inputs(_ones(given.args), _ones(given.kwargs))
    try:
        with quiet():  # weights that do not lie one after the other, as a recurrent layer would have them
            outputs = list(tensors_in(ones.call(model)))
    except RuntimeError as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"{type(model).__name__} does not run in float64 on ones, which 'synflow' needs ({first}); prune it by "
            f"another criterion"
        ) from error
    output = next((one for one in outputs if one.is_floating_point()), None)
    if output is None:
        raise MaskError(f"{type(model).__name__} gives no floating-point tensor, whose sum 'synflow' is about")
    return _slopes(output.sum(), parameters_named(model, weights), create_graph=False)


def parameters_named(model: nn.Module, weights: Iterable[str]) -> dict[str, nn.Parameter]:
    """Return the parameters of these names, wrappers looked through.

    Raises:
        MaskError: when a weight is no parameter but computed from others.
    """
    weights = tuple(weights)
    own = dict(model.named_parameters(remove_duplicate=False))
    called = names_in(weights, own)
    computed = next((name for name in weights if name not in called), None)
    if computed is not None:
        raise MaskError(
            f"'{computed}' is computed from other tensors, so the loss has no gradient by it; make its pruning or "
            f"parametrization permanent first"
        )
    return {name: own[called[name]] for name in weights}


def _loss(model: nn.Module, objective: Objective, batch: Any) -> Tensor:
    with torch.enable_grad():
        value = objective(model, moved(batch, device_of(model)))
    if not value.requires_grad:
        raise MaskError(
            f"the loss '{objective.name}' does not depend on the weights, so it has no gradient; compute it from what "
            f"the model gives, without torch.no_grad or detach"
        )
    return value


def _slopes(value: Tensor, parameters: Mapping[str, nn.Parameter], *, create_graph: bool) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, list(parameters.values()), create_graph=create_graph, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


def _ones(value: Any) -> Any:
    """Return inputs in which floating-point tensors are ones in float64."""
    if isinstance(value, Tensor):
        return torch.ones_like(value, dtype=torch.float64) if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _ones(item) for key, item in value.items()}
    return type(value)(_ones(item) for item in value) if isinstance(value, tuple | list) else value
