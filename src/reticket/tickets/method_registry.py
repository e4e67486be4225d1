"""What a method of an experiment is: a function of what an experiment has, registered under a name.

`methods` has the members.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from inspect import signature
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import nn

from reticket.errors import InputError
from reticket.options import Options
from reticket.registry import Registry, first_line
from reticket.tickets.mask import Mask
from reticket.tickets.start import SparseStart
from reticket.tickets.target import Target
from reticket.tickets.ticket import Ticket
from reticket.tickets.transfer import Carries
from reticket.types import StateDict

Frame = Literal["init", "mask"]
NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class MethodInputs:
    """What methods are made of; a method asks for some of these fields by name (`Method.needs`).

    Args:
        ticket: A's mask and the signs of its pruned, trained weights.
        trained_a: A's dense weights at the end of training.
        pruned_a: A's weights at the end of the IMP chain at this sparsity.
        rewound_a: A's dense weights at the rewind point k.
        rewound_b: B's dense weights at k.
        trained_b: B's dense weights at the end of training.
        mask_b: B's own IMP mask at this sparsity.
        target: what pruning is to reach: a density, of which weights, compared where, in which pattern.
        alignment: carries A's units to B's order.
        random_alignment: an alignment drawn at random.
        correlations: for each weight that is pruned, in B's order, the product of the matched correlations of the units
            that it joins, in [0, 1].
        generator: randomness of the method, on the CPU; it moves on as it is drawn from.
        model: the structure as a module, of whatever weights; a method that computes with it does so with a copy.
        batches: some training examples of the network that is trained.
        example_inputs: the inputs of one of them, for their form.
        loss: name of the objective of the training.
        frame: "init" moves the ticket to B's units, "mask" moves B's weights to A's units by the inverse; the two are
            the same training problem up to relabelling.
    """

    ticket: Ticket | None = None
    trained_a: StateDict | None = None
    pruned_a: StateDict | None = None
    rewound_a: StateDict | None = None
    rewound_b: StateDict | None = None
    trained_b: StateDict | None = None
    mask_b: Mask | None = None
    target: Target | None = None
    alignment: Carries | None = None
    random_alignment: Carries | None = None
    correlations: StateDict | None = None
    generator: torch.Generator | None = None
    model: nn.Module | None = None
    batches: Iterable[Any] | None = None
    example_inputs: Any = None
    loss: str = "classification"
    frame: Frame = "init"


@dataclass(frozen=True)
class Method:
    """One method of an experiment.

    Args:
        name: as in a configuration and a table.
        function: from fields of `MethodInputs`, by name, to the initial sparse network; pure but for drawing from
            `generator`. What stands after a `*` are its options.
        needs: the fields that must be given for it.
        network: whose initialisation and order of data it trains with, "A" or "B".
        trains: whether the network is trained from there, or only evaluated.
        sparse: whether it depends on the sparsity.
        description: one line for a report.
        only_where: of `needs` those that one value of an option alone asks for: field -> (option, value).
        counts_alone: whether it takes of the ticket only how many weights it keeps, which is known before there is one.
        single: whether it chooses weight by weight, whatever pattern an experiment prunes by.
        dynamics: name of what changes its mask while it trains (`dynamics.DYNAMICS`); None for a mask that stays.
    """

    name: str
    function: Callable[..., SparseStart]
    needs: tuple[str, ...]
    network: Literal["A", "B"]
    trains: bool
    sparse: bool
    description: str
    only_where: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    counts_alone: bool = False
    single: bool = False
    dynamics: str | None = None

    def __call__(self, inputs: MethodInputs, options: Mapping[str, Any] = NONE) -> SparseStart:
        """Return the initial sparse network.

        Args:
            inputs: with what the method needs.
            options: of the method, by name; those that are left out have their defaults.

        Raises:
            InputError: when a field that the method needs is None, or for an option that it does not have or a value
                that it does not allow.
        """
        chosen = self.options.settings(options)
        missing = [name for name in self.needs_for(options) if getattr(inputs, name) is None]
        if missing:
            raise InputError(f"method '{self.name}' needs {', '.join(missing)}; give MethodInputs({missing[0]}=...)")
        return self.function(**{name: getattr(inputs, name) for name in self.uses}, **chosen)

    def needs_for(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the fields that must be given for it with these options.

        Args:
            options: by name; those that are left out have their defaults.

        Raises:
            InputError: for an option that the method does not have, or a value that it does not allow.

        >>> get_method("permuted").needs_for({})
        ('ticket', 'rewound_b', 'alignment')
        """
        chosen = self.options.settings(options)
        unasked = {name for name, (option, value) in self.only_where.items() if chosen.get(option) != value}
        return tuple(name for name in self.needs if name not in unasked)

    @cached_property
    def uses(self) -> tuple[str, ...]:
        """Every field of `MethodInputs` that it looks at, needed or not."""
        return tuple(name for name in signature(self.function).parameters if name not in self.options)

    @cached_property
    def options(self) -> Options:
        """Its own settings, with their annotations and defaults."""
        parameters = signature(self.function, eval_str=True).parameters
        own = {name: one for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
        return Options(f"method '{self.name}'", own, InputError)

    @property
    def says(self) -> str:
        """One line for a list: what it is, and its options with their defaults."""
        shown = ", ".join(f"{name} = {one.default!r}" for name, one in self.options.items())
        return f"{self.description} Options: {shown}." if shown else self.description


METHODS = Registry[Method]("method", "reticket.methods", InputError, says=lambda one: one.says)


def method(
    name: str,
    *,
    network: Literal["A", "B"] = "B",
    trains: bool = True,
    sparse: bool = True,
    only_where: Mapping[str, tuple[str, Any]] = NONE,
    counts_alone: bool = False,
    single: bool = False,
    dynamics: str | None = None,
) -> Callable[[Callable[..., SparseStart]], Method]:
    """Register a function as a method.

    Its parameters are the fields of `MethodInputs` that it uses, so that a planner knows what to compute for it and
    what not; the first line of its docstring is its description. What stands after a `*` are its options, with their
    types and defaults.

    Args:
        name: as in a configuration and a table.
        network: whose initialisation and order of data it trains with.
        trains: whether the network is trained from there, or only evaluated.
        sparse: whether it depends on the sparsity.
        only_where: fields that one value of an option alone asks for, {"batches": ("by", "gradient")}; with others
            they are not planned, and None.
        counts_alone: whether it takes of the ticket only how many weights it keeps: no ticket need be found for it, and
            none is part of its cost.
        single: whether it chooses weight by weight, so that an experiment whose pruning has a pattern refuses it.
        dynamics: name of what changes its mask while it trains; None for a mask that stays.

    Raises:
        InputError: when the name is taken, a parameter is neither a field of `MethodInputs` nor an option with a
            default, or there is no docstring.
    """
    known = {field.name: field.default for field in fields(MethodInputs)}

    def register(function: Callable[..., SparseStart]) -> Method:
        given = {key: one for key, one in signature(function).parameters.items() if one.kind is not one.KEYWORD_ONLY}
        options = {key: one for key, one in signature(function).parameters.items() if key not in given}
        unknown = [parameter for parameter in given if parameter not in known]
        if unknown:
            raise InputError(
                f"method '{name}' asks for '{unknown[0]}', which is no field of MethodInputs: {', '.join(known)}"
            )
        odd = [key for key, one in options.items() if key in known or one.default is one.empty]
        odd += [key for key, (option, _) in only_where.items() if key not in given or option not in options]
        if odd:
            raise InputError(
                f"method '{name}' has the parameters {signature(function)}, where '{odd[0]}' does not fit; an option "
                "stands after a *, has a default and is called like no field of MethodInputs, and only_where names a "
                "field and an option of the method"
            )
        description = first_line(function)
        if not description:
            raise InputError(f"method '{name}' has no docstring; its first line is what the report says of it")
        needs = tuple(parameter for parameter in given if known[parameter] is None)
        more = {"only_where": only_where, "counts_alone": counts_alone, "single": single, "dynamics": dynamics}
        made = Method(name, function, needs, network, trains, sparse, description, **more)
        return METHODS.add(name, made)

    return register


def get_method(name: str) -> Method:
    """Return the method of this name.

    Raises:
        InputError: when there is none, with the nearest name, or when the package that announces it is broken.
    """
    return METHODS.named(name)
