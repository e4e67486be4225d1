"""Matching methods by name, all behind one call."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.forward import modules_of
from reticket.matching.constraints import constrained, released
from reticket.matching.fit import check_fits
from reticket.matching.partial import leaving_out
from reticket.matching.soft import corner, nearest
from reticket.options import Options
from reticket.progress import Tracked
from reticket.registry import Registry, first_line
from reticket.symmetry import Alignment, Symmetry
from reticket.symmetry.filled import check_filled
from reticket.weights import Weights, state_of
from reticket.wrapped import inside

NetworkCheckpoints: TypeAlias = Weights | Sequence[Weights]  # one network, or one at several points of its training
Function = Callable[..., Alignment]
Memory: TypeAlias = Callable[..., int]
Trained: TypeAlias = Callable[..., int]

FIRST = ("models_a", "models_b", "sym")  # what every matcher is given, in this order
GIVEN = {  # what a matcher asks for by naming it among its parameters, with how a user gives it
    "batches": "batches of inputs, the argument batches",
    "start": "an alignment to begin from, start=",
    "masks_a": "the mask of A, masks_a=",
    "masks_b": "the mask of B, masks_b=",
    "rewound_b": "B's weights where its sparse training begins, rewound_b=",
}
LIMITS = {  # options of every matcher: what permutations it may use
    key: one
    for key, one in inspect.signature(constrained, eval_str=True).parameters.items()
    if one.kind is one.KEYWORD_ONLY
}
COMMON = LIMITS | {"leave_out": inspect.signature(leaving_out, eval_str=True).parameters["leave_out"]}
HELD_BYTES = {"cpu": 2**27, "cuda": 2**32}  # for an option `held_bytes`, by kind of device


@dataclass(frozen=True)
class Matcher:
    """A matching method.

    Args:
        name: what users write as `method`.
        function: `(models_a, models_b, sym, ...) -> Alignment`.
        uses: what it is given besides, names of `GIVEN`.
        needs: those of `uses` that it cannot do without.
        options: its settings and those that every matcher has, with their annotations and defaults.
        description: one line for a listing.
        memory: `(model, sym, batch, **options) -> bytes`, what it takes at its peak; None where that is not known.
        trained: `(batch, **options) -> examples` that it does steps of training on, where batches are of so many; None
            where it does none.
    """

    name: str
    function: Function
    uses: tuple[str, ...]
    needs: tuple[str, ...]
    options: Options
    description: str
    memory: Memory | None = None
    trained: Trained | None = None

    @classmethod
    def of(
        cls, name: str, function: Function, memory: Memory | None = None, trained: Trained | None = None
    ) -> "Matcher":
        """Read from a function's signature what it needs and which options it has.

        Args:
            name: what users write as `method`.
            function: `(models_a, models_b, sym, ...) -> Alignment`.
            memory: what it takes.
            trained: what it trains on.

        Raises:
            InputError: for a parameter that is neither given nor an option.
        """
        parameters = inspect.signature(function, eval_str=True).parameters
        options = {key: one for key, one in parameters.items() if one.kind is one.KEYWORD_ONLY and key not in GIVEN}
        known = (*FIRST, *GIVEN, *options)
        odd = [key for key in parameters if key not in known] + [key for key in FIRST if key not in parameters]
        odd += [key for key in options if key in COMMON]
        if odd or any(one.default is one.empty for one in options.values()):
            raise InputError(
                f"matcher '{name}' has the parameters {inspect.signature(function)}; it gets {', '.join(FIRST)}, what "
                f"it names of {', '.join(GIVEN)}, and options, which stand after a *, have a default and are none of "
                f"{', '.join(COMMON)}, which every matcher has"
            )
        uses = tuple(key for key in parameters if key in GIVEN)
        needs = tuple(key for key in uses if parameters[key].default is inspect.Parameter.empty)
        taken = Options(f"matcher '{name}'", options, InputError, COMMON)
        return cls(name, function, uses, needs, taken, first_line(function), memory, trained)

    def says(self, model: nn.Module, sym: Symmetry, batch: object, **options: Any) -> str:
        """Return what a bar says while networks are matched: with the memory that it takes, where that is known.

        Args:
            model: one of the networks.
            sym: their symmetry.
            batch: the first.
            options: of the method, with `others` and `checkpoints` as `matching_memory` takes them.
        """
        if self.memory is None:
            return "matching"
        return f"matching, {self.memory(model, sym, batch, **options) / 1e6:,.0f} MB at its peak"

    def check(self, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Refuse a call that lacks what the matcher needs, or has what it does not take.

        Batches are no such thing: a matcher that looks at no data leaves them unread.

        Args:
            given: values by names of `GIVEN`, None where there is none.
            options: values by name.

        Raises:
            InputError: names it.
        """
        for key, value in given.items():
            if value is None and key in self.needs:
                raise InputError(f"matcher '{self.name}' needs {GIVEN[key]}; give it")
            if value is not None and key not in (*self.uses, "batches"):
                raise InputError(f"matcher '{self.name}' does not take {GIVEN[key]}; leave it out")
        self.options.check(options)

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option that has a value, defaults included, for a configuration.

        Args:
            options: what a configuration holds: values that JSON knows.

        Raises:
            InputError: for an option that the matcher does not have, or a value that its annotation does not allow.

        >>> MATCHERS["activation"].settings({"cost": "cosine"})
        {'cost': 'cosine', 'stop': 'stable', 'unmatched': 'weight'}
        """
        self.check({}, options)
        return self.options.settings(options)


MATCHERS = Registry[Matcher]("matcher", "reticket.matchers", InputError, says=lambda one: one.description)


def matcher(
    name: str, *, memory: Memory | None = None, trained: Trained | None = None
) -> Callable[[Function], Function]:
    """Register a matching method; its signature says what it needs and which options it has.

    Its first parameters are `models_a`, `models_b` and `sym`: two tuples of equal length, checkpoint by checkpoint, of
    one model each, mostly, and their symmetry, which they fit. What else it names of `batches`, `start`, `masks_a`,
    `masks_b` and `rewound_b` it is given, and must be given where that parameter has no default. Options stand after a
    `*`, with their types and defaults: a configuration's `matching.options` is checked against them.

    Args:
        name: what users write as `method`.
        memory: says how much it takes, see `Matcher`.
        trained: says on how many examples it does steps of training, for plans and costs, see `Matcher`.

    Raises:
        InputError: when the name is taken or a parameter is none of these.
    """

    def register(function: Function) -> Function:
        MATCHERS.add(name, Matcher.of(name, function, memory, trained))
        return function

    return register


def memory_options(method: str, device: str) -> dict[str, Any]:
    """Return the option that bounds what is held on a device, for a matching method that has it, else nothing.

    Args:
        method: name of a matching method.
        device: where the models are, as "cpu".

    >>> memory_options("activation", "cpu")
    {'held_bytes': 134217728}
    """
    held = HELD_BYTES.get(torch.device(device).type)
    return {"held_bytes": held} if held and "held_bytes" in MATCHERS.named(method).options else {}


def list_matchers() -> dict[str, str]:
    """Return every matching method by name, with one line on what it does.

    >>> list_matchers()["identity"]
    'Control: leave every unit where it is.'
    """
    return dict(sorted(MATCHERS.descriptions().items()))


def match(
    model_a: NetworkCheckpoints,
    model_b: NetworkCheckpoints,
    sym: Symmetry,
    batches: Iterable[object] | None = None,
    method: str = "activation",
    *,
    start: Alignment | None = None,
    masks_a: Mapping[str, Tensor] | None = None,
    masks_b: Mapping[str, Tensor] | None = None,
    rewound_b: Weights | None = None,
    **options: Any,
) -> Alignment:
    """Return the alignment that carries A's units to B's order: `al.apply(a.state_dict())` is close to B's.

    Both models run in evaluation mode, each exactly once on every batch, on the device they are on; their weights and
    modes and torch's random state are left as they were. "refine" runs copies besides, many times. What only a traced
    graph shows, as the heads of `nn.MultiheadAttention`, is computed beside that; for this the models are traced once a
    shape of the batches.

    Several checkpoints of each, `match([a_50, a_100, a_end], [b_50, b_100, b_end], ...)`, are matched by consensus:
    units keep their identity along a network's training, so the similarities of the pairs (A^t, B^t) are averaged
    before the assignment is solved, once. One checkpoint, or the same one twice, gives what plain matching gives.

    Args:
        model_a: model whose units move, or its checkpoints; in a parallel or compiled wrapper or not. All but one of
            the networks may be state_dicts: they are run in copies of the first that is a module.
        model_b: model of the same architecture, whose order is taken, or as many checkpoints.
        sym: their symmetry, from `discover`.
        batches: any iterable, a generator too. Of a batch (a tensor, a tuple or a dict of keyword inputs) the model
            gets the first n elements, n being the number of inputs `sym` was discovered with. A method that looks at no
            data needs none.
        method: name of a matching method, see `reticket list matchers`.
        start: an alignment of the same symmetry, for a method that begins from one.
        masks_a, masks_b: masks of A's and B's weights, for a method that looks at them.
        rewound_b: B's weights where its sparse training will begin, a state_dict or a module, for a method that looks
            at them.
        options: `progress`, True for a bar, which also says how much memory "activation" will take, or a function of
            the batches done and how many there are (None where that is not known); and those of the method. For
            "activation": `cost`, "correlation" (default), "covariance" or "cosine"; `to_inputs`, a function from a
            batch to what the model takes (a tensor, a tuple or a dict);
            `stop`, "stable" (default: stop when no assignment has changed over 3 doublings of the examples seen, at
            4096 at the earliest), "never" (see every batch, as None does) or a share of the units, as 0.01 (stop when
            no more than these are expected to change their partner with more examples, as the halves of what was seen
            say, at 256 examples in two batches at the earliest); `unmatched`, "weight" (default: by its weights, all
            others held), "error" or "identity": what to do with a group that has no site where it can be matched on
            its own; `held_bytes`, how much of A's activations may be held at once (default: all of a batch): a larger
            batch is run in parts, cut along the first axis of its tensors, which must be that of the examples. The cut
            changes the result by rounding alone. How large a part may be is told from the activations that discovery
            saw; `positions`, at how many positions of an example, as the pixels of a feature map, each site is looked
            at, at most (default: all): neighbours tell much the same, so that fewer give nearly the same alignment
            sooner; `seen`, an `Activations`, which is empty at first and takes what is seen: where it is given again,
            with further batches, matching goes on, to the result of one call on all of them (checks of `stop` begin
            anew).
            Every method has `fixed`, names of groups whose units stay where they are, or by name those units of a
            group that do; `blocks`, by name how many consecutive units of a group move as one, in any order among
            themselves, or one number for every group that it divides; `ordered_blocks`, likewise, the order inside
            being kept; and `leave_out`, the share of the units of each group, those matched worst, that a mask is not
            to be carried to, see `transfer`.

    Returns:
        The alignment. `quality` holds, per matched group, the mean correlation of matched units and their margin over
        the best other unit, always in terms of correlation, averaged over checkpoints; a group that was left as it is
        has no entry.
        That of "activation" also has `examples` and `batches`, the budget used, and `unsettled`, the share of units
        that is expected to change, where `stop` is a share.

    Raises:
        InputError: unknown method, cost or option, unequal numbers of checkpoints, what is neither a module nor a
            state_dict, no module at all, or a method that lacks what it needs (no batches, no start) or does not take
            what was given.
        AlignmentError: empty batches, models or a start that are not of this symmetry, activations that are not
            finite, or a group that cannot be matched.
        ModelError: a batch that a model cannot take, or a model without values (lazy, meta).
    """
    _check_symmetry(sym)
    chosen = MATCHERS.named(method)
    progress = options.pop("progress", False)
    given = {"batches": batches, "start": start, "masks_a": masks_a, "masks_b": masks_b}
    given["rewound_b"] = None if rewound_b is None else state_of(rewound_b, "rewound_b")
    chosen.check(given, options)
    narrow, leave_out, options = limited(sym, options)
    models_a, models_b = models_to_match(model_a, model_b, sym)
    if start is not None and start.symmetry.layouts != sym.layouts:
        raise AlignmentError("start is an alignment of another symmetry; give one that was found with this one")
    if start is not None and narrow is not sym:
        given["start"] = Alignment(narrow, nearest(narrow, corner(narrow, start.permutations)))
    if leave_out is not None and isinstance(batches, Iterator):
        given["batches"] = batches = list(batches)
    if batches is not None and progress is not False:
        says = partial(chosen.says, models_a[0], sym, checkpoints=len(models_a), **options)
        given["batches"] = Tracked(batches, progress, says)
    values = {name: given[name] for name in chosen.uses if given[name] is not None}
    found = chosen.function(models_a, models_b, narrow, **values, **options)
    if not isinstance(found, Alignment):
        raise InputError(f"matcher '{method}' returned a {type(found).__name__}, but an Alignment was expected")
    found = released(found, sym, narrow, method)
    seen = batches if "batches" in chosen.uses else None
    return leaving_out(found, models_a, models_b, seen, options.get("to_inputs"), leave_out=leave_out)


def limited(sym: Symmetry, options: Mapping[str, Any]) -> tuple[Symmetry, float | None, dict[str, Any]]:
    """Return the symmetry with the permutations that options leave, what share of units to leave out, and the rest.

    Args:
        sym: the symmetry.
        options: of a call.

    Raises:
        InputError: for limits that the symmetry has not.
    """
    narrow = constrained(sym, **{key: value for key, value in options.items() if key in LIMITS})
    return narrow, options.get("leave_out"), {key: value for key, value in options.items() if key not in COMMON}


def models_to_match(
    model_a: NetworkCheckpoints, model_b: NetworkCheckpoints, sym: Symmetry
) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """Return the checkpoints of both networks as modules that fit the symmetry.

    Args:
        model_a: one network, or one at several points of its training.
        model_b: likewise, as many.
        sym: their symmetry.

    Raises:
        InputError: for another kind of value, or unequal numbers.
        AlignmentError: when a model is not of this symmetry.
    """
    _check_symmetry(sym)
    models_a, models_b = _models(model_a, model_b, sym)
    _check_models(models_a, models_b, sym)
    return models_a, models_b


def _check_symmetry(sym: object) -> None:
    if not isinstance(sym, Symmetry):
        raise InputError(
            f"sym is a {type(sym).__name__}, but a Symmetry was expected; discover(model, example_inputs) finds one"
        )


def _check_models(models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], sym: Symmetry) -> None:
    """Refuse unequal numbers of checkpoints, and models that hold no values or are not of the symmetry."""
    if len(models_a) != len(models_b) or not models_a:
        raise InputError(
            f"matching got {len(models_a)} checkpoints of A and {len(models_b)} of B; "
            "give as many of each, at least one"
        )
    for which, models in (("model_a", models_a), ("model_b", models_b)):
        for number, model in enumerate(models):
            check_filled(model, which)
            check_fits(model, sym, which if len(models) == 1 else f"{which}[{number}]")


def _models(
    a: NetworkCheckpoints, b: NetworkCheckpoints, sym: Symmetry
) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """Return the models, each in the wrapper that the symmetry has; state_dicts in copies of the first module."""
    of_a, of_b = _checkpoints(a, "model_a"), _checkpoints(b, "model_b")
    every = [one if one.state_dict().keys() == sym.layouts.keys() else inside(one) for one in modules_of(of_a | of_b)]
    return tuple(every[: len(of_a)]), tuple(every[len(of_a) :])


def _checkpoints(networks: NetworkCheckpoints, name: str) -> dict[str, Weights]:
    """Return the networks by what the caller calls them."""
    if isinstance(networks, nn.Module | Mapping | str) or not isinstance(networks, Sequence):
        state_of(networks, name)  # refuses any other kind
        return {name: networks}
    return {f"{name}[{number}]": one for number, one in enumerate(networks)}
