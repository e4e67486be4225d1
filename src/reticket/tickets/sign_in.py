"""Sign-In in any loop: kept weights are trained as products of two factors, and are plain weights again afterwards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from reticket.errors import MaskError
from reticket.products import as_product
from reticket.tickets.mask import Mask, mask_of
from reticket.weights import module_of
from reticket.wrapped import inside


class Products:
    """The weights of a model that are trained as products; `sign_in` makes one.

    Args:
        modules: by name of the weight the module that holds it, and its name there.
        beta: the imbalance.
    """

    def __init__(self, modules: dict[str, tuple[nn.Module, str]], beta: float) -> None:
        self._modules, self._beta = modules, beta

    @property
    def factors(self) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
        """Return m and w by the name of their weight."""
        return {name: _factors(module, attribute) for name, (module, attribute) in self._modules.items()}

    @torch.no_grad()
    def rescale(self) -> None:
        """Bring the imbalance `m^2 - w^2` back to beta; m keeps its sign, and the product its value up to rounding."""
        for module, attribute in self._modules.values():
            first, second = _factors(module, attribute)
            larger, smaller = as_product(first * second, self._beta)
            sign = torch.ones_like(first).copysign(first)
            first.copy_(larger * sign)
            second.copy_(smaller * sign)


@contextmanager
def sign_in(model: nn.Module, mask: Mask, *, beta: float = 1.0) -> Iterator[Products]:
    """Train the kept weights of `model` as products `theta = m w` while the block runs, in any loop.

    They begin as `m^2 - w^2 = beta`, of the same product, and change their signs more easily than plain weights: see
    `reticket.training.SignIn`, which does the same in `reticket.train` (Gadhikar et al. 2025, arXiv 2504.12801, who
    reset the imbalance every so many epochs; here the loop calls `rescale`). Masked weights are exactly 0 in every
    forward, whatever the optimizer does to their factors. The optimizer has to be made inside the block, and another
    one after it. In the block `model.parameters()` and its `state_dict` have m and w, as
    `parametrizations.NAME.original0` and `original1`, in place of each weight. On exit the products are written into
    the weights that were there before.

    Args:
        model: in a parallel or compiled wrapper or not; made of modules that `torch.nn.utils.parametrize` can change.
        mask: which weights are kept, by the names of `model.named_parameters()`; what it does not name is trained as
            it is.
        beta: the imbalance, above 0.

    Yields:
        What has `rescale()` and the `factors`.

    Raises:
        MaskError: when the mask belongs to another model, or a weight is pruned, parametrized or used in two places;
            or beta is not above 0; and by a step of an optimizer that was made before the block, or of one that has
            trained the factors and is used after it: either would train nothing.

    >>> net = nn.Linear(4, 1)
    >>> mask = Mask({"weight": torch.tensor([[True, False, True, False]])})
    >>> with sign_in(net, mask) as products:
    ...     sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    ...     for _ in range(3):
    ...         sgd.zero_grad()
    ...         net(torch.ones(2, 4)).square().mean().backward()
    ...         sgd.step()
    ...         products.rescale()
    >>> int((net.weight == 0).sum()), [name for name, _ in net.named_parameters()]
    (2, ['weight', 'bias'])
    """
    if not beta > 0:
        raise MaskError(f"beta is {beta!r}, but an imbalance above 0 was expected: at 0 no weight passes 0")
    found = _modules_of(inside(module_of(model)), mask)
    weights = [module.get_parameter(attribute) for module, attribute in found.values()]
    products = Products(found, beta)
    with ExitStack() as undone:
        for name, (module, attribute) in found.items():
            before = dict(module._parameters)
            kept = mask[name].to(module.get_parameter(attribute).device)
            parametrize.register_parametrization(module, attribute, _Product(kept, beta))
            undone.callback(_fold, module, attribute, before)
        undone.enter_context(_watched(products, weights))
        yield products


class _Product(nn.Module):
    """The product of two factors where a mask keeps it."""

    def __init__(self, kept: Tensor, beta: float) -> None:
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)
        self._beta = beta

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first * second).masked_fill(~self.get_buffer("kept"), 0)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        kept = self.get_buffer("kept")
        first, second = as_product(weight, self._beta)
        return first.masked_fill(~kept, 0), second.masked_fill(~kept, 0)


@contextmanager
def _watched(products: Products, weights: list[nn.Parameter]) -> Iterator[None]:
    """Refuse steps that train nothing: those of weights while their factors stand in their place, and the reverse."""
    trained: list[Optimizer] = []

    def before_step(optimizer: Optimizer, *_: Any) -> None:
        if _holds(optimizer, _all(products)):
            if all(optimizer is not other for other in trained):
                trained.append(optimizer)
        elif _holds(optimizer, [weight for weight in weights if weight.requires_grad]):
            raise MaskError(
                "the optimizer was made outside `sign_in`: it holds weights and not the factors that are trained in "
                "their place, so it would train nothing; make it inside the block, from model.parameters()"
            )

    handle = register_optimizer_step_pre_hook(before_step)
    try:
        yield
    finally:
        handle.remove()
        factors = _all(products)
        for optimizer in trained:
            optimizer.register_step_pre_hook(_refusing(factors, weights))


def _refusing(factors: list[nn.Parameter], weights: list[nn.Parameter]) -> Callable[..., None]:
    def before_step(optimizer: Optimizer, *_: Any) -> None:
        if _holds(optimizer, factors) and not _holds(optimizer, weights):
            raise MaskError(
                "the optimizer was made inside `sign_in`: it holds the factors of a block that has ended and not the "
                "weights, so it would train nothing; make one after the block, from model.parameters()"
            )

    return before_step


def _all(products: Products) -> list[nn.Parameter]:
    return [factor for pair in products.factors.values() for factor in pair]


def _holds(optimizer: Optimizer, parameters: list[nn.Parameter]) -> bool:
    own = {id(parameter) for parameter in parameters}
    return any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])


def _factors(module: nn.Module, attribute: str) -> tuple[nn.Parameter, nn.Parameter]:
    held = module.get_submodule(f"parametrizations.{attribute}")
    return held.get_parameter("original0"), held.get_parameter("original1")


def _modules_of(model: nn.Module, mask: Mask) -> dict[str, tuple[nn.Module, str]]:
    """Return by name in the mask where each weight is held."""
    every = list(model.named_parameters(remove_duplicate=False))
    names = mask_of(mask).names_among(dict(every))
    found = {}
    for name, own in names.items():
        path, _, attribute = own.rpartition(".")
        module, weight = model.get_submodule(path), model.get_parameter(own)
        places = [other for other, parameter in every if parameter is weight]
        if len(places) > 1 or parametrize.is_parametrized(module, attribute) or own.endswith("_orig"):
            why = f"it is {' and '.join(places)} at once" if len(places) > 1 else "it is computed from other tensors"
            raise MaskError(f"'{name}' cannot be trained as a product: {why}; make it a weight of its own first")
        found[name] = (module, attribute)
    return found


@torch.no_grad()
def _fold(module: nn.Module, attribute: str, before: Mapping[str, nn.Parameter | None]) -> None:
    """Write a product into the weight that was there before, and put that in its place among the parameters."""
    weight = before[attribute]
    assert weight is not None
    product = getattr(module, attribute)
    parametrize.remove_parametrizations(module, attribute, leave_parametrized=True)
    weight.data.copy_(product)
    setattr(module, attribute, weight)
    for name in before:  # in their order, by which optimizers know them
        module._parameters[name] = module._parameters.pop(name)
