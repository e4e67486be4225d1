"""REPAIR (Jordan et al. 2022, arXiv 2211.08403): renormalise a mixture's activations to those of its ends."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reticket.connectivity.interpolation import alike, mixture_of
from reticket.connectivity.layers import Layers, channel_axis, layers_to_repair, scaled_weight
from reticket.connectivity.mixture import Mixture, mixture
from reticket.connectivity.statistics import ChannelStats, Held
from reticket.copied import private_copy
from reticket.errors import InputError, ModelError
from reticket.forward import call
from reticket.matching.moments import Moments, centre
from reticket.nested import checked_batches, inputs_of
from reticket.symmetry.filled import check_filled
from reticket.symmetry.untouched import kept
from reticket.types import StateDict
from reticket.weights import Weights, module_of, state_of
from reticket.wrapped import inside, renamed_like

ROUNDS = 200  # passes until the corrections of layers that run several times must stand still
ROUGH = 0.01  # share of a spread that no rounding explains
CONSTANT = 8 * torch.finfo(torch.float32).eps  # spread below this share of the mean is rounding

RecordedStats = list[dict[str, list[ChannelStats]]]  # per batch, per layer, in the order of the layer's calls


def repair(
    model: nn.Module,
    endpoints: Sequence[Weights],
    alpha: float | int | Sequence[float | int],
    batches: Iterable[object],
    *,
    to_inputs: Callable[[object], object] | None = None,
) -> dict[str, Any]:
    """Return the mixture `(1 - alpha) a + alpha b`, or that of several networks, with its activations renormalised.

    For each output channel of each linear and convolution layer but the final one, weight and bias are rescaled so that
    `mean = (1 - alpha) mean_a + alpha mean_b` and `std = (1 - alpha) std_a + alpha std_b`; of several networks
    these are the sums of weight times mean, and of weight times std.
    A layer that feeds a BatchNorm layer is left to that layer, whose running statistics are set to the mixture's own:
    its interpolated affine parameters are the mean and spread wanted, except where the two gammas differ in sign: the
    spread wanted is then `(1 - alpha) |gamma_a| + alpha |gamma_b|`, with the sign of their interpolation. The final
    layers (the last to run, and those whose output is the model's) are left alone.

    Statistics are taken in one pass in which every correction already acts on the layers after it. There a batch is
    corrected by its own statistics, as in the authors' code; what is written into the state are the statistics over all
    batches. With one batch the targets are met exactly, with several up to the spread between batches, so few large
    batches are best. Deviations from the paper: variances are over all samples (between batches included, divided by n)
    and not a mean of batch variances; a channel that is constant in the mixture is shifted and not rescaled; a layer
    without a bias is rescaled, and its mean follows (there is no parameter to hold a shift). A layer that runs several
    times in a forward pass has one correction for all of them, whose targets are those of all its outputs together;
    it is found by passes until they are met. Zero weights stay zero.

    Args:
        model: gives the architecture; neither its weights nor its mode are used or changed.
        endpoints: `a` and `b`, or several: state_dicts or networks; what is no weight in them (`_extra_state`) goes
            along as `interpolate` says.
        alpha: position on the line from 0 to 1, or beyond, where the spread wanted is that of the nearer end; for
            several a weight for each, none below 0, with sum 1. At 0 and 1, or a weight of 1, a model without BatchNorm
            is returned bit for bit; one with BatchNorm is the end with its running statistics taken anew on `batches`.
        batches: inputs, or tuples whose first element is the inputs, read once for each end and each mixture, in the
            same order; an iterator (which can be read only once) is kept in memory.
        to_inputs: what of a batch the model takes, in place of that rule: a tensor, a tuple or a dict of keywords.

    Raises:
        ModelError: endpoints of different models, a layer that cannot be rescaled, a batch the model cannot take,
            targets that are not met (layers that run several times, or whose weight is used elsewhere as well), or a
            model without values (lazy, meta).
        InputError: no batches, an alpha that is no number, weights that are not one for each, below 0 or of another
            sum, or endpoints that are neither modules nor state_dicts.
    """
    return Repairer(model, endpoints, batches, to_inputs=to_inputs).at(alpha)


class Repairer:
    """REPAIR of one set of endpoints: their statistics are taken once and serve every mixture. See `repair`."""

    def __init__(
        self,
        model: nn.Module,
        endpoints: Sequence[Weights],
        batches: Iterable[object],
        *,
        to_inputs: Callable[[object], object] | None = None,
    ) -> None:
        model = inside(module_of(model))
        check_filled(model)
        if isinstance(endpoints, nn.Module | Mapping | str):
            raise InputError(
                f"endpoints is one {type(endpoints).__name__}, but two networks or more were expected, as (a, b)"
            )
        checked_batches(batches, "REPAIR")
        own = model.state_dict()
        states = alike(
            [renamed_like(own, state_of(end, f"endpoints[{number}]")) for number, end in enumerate(endpoints)]
        )
        self._batches = list(batches) if isinstance(batches, Iterator) else batches
        self._to_inputs = to_inputs
        first = next(iter(self._batches), None)
        if first is None:
            raise InputError("REPAIR got no batches: give at least one batch of inputs to take the statistics on")
        self._original, self._endpoints = model, states
        with kept(model):  # a copy shares caches, hooks and what functions hold with its original
            self._model = private_copy(model).eval()
            load(self._model, states[0])
            self._layers = layers_to_repair(self._model, inputs_of(first, to_inputs))
            self._ends = [self._observe(end) for end in states] if self._layers.corrected else []

    def at(self, alpha: float | int | Sequence[float | int], mixed: StateDict | None = None) -> dict[str, Any]:
        """Return the renormalised mixture at `alpha`, or that of these weights.

        Args:
            alpha: position on the line, or a weight for each network.
            mixed: what is renormalised, where it is not the mean that `alpha` gives.
        """
        mix = mixture(len(self._endpoints), alpha)
        state = mixture_of(self._endpoints, mix) if mixed is None else dict(mixed)
        names = _names(self._model)
        _keep_spread(state, self._endpoints, mix, [o for m, o in names.items() if isinstance(m, _BatchNorm)])
        with kept(self._original):
            load(self._model, state)
            record, norms = self._settled(mix)
        with torch.no_grad():
            for name, moments in norms.items():
                _write(state, names[self._model.get_submodule(name)], "running_mean", moments.mean)
                _write(state, names[self._model.get_submodule(name)], "running_var", moments.variance)
            for name in self._layers.corrected:
                layer = self._model.get_submodule(name)
                _rescale(state, layer, names[layer], *self._pooled_correction(record, name, mix))
        if len(record) == 1 and mix.end is None:
            with kept(self._original):
                self._check_met(state, mix)
        return state

    def _settled(self, mix: Mixture) -> tuple[RecordedStats, dict[str, Moments]]:
        """Pass over the batches, again until the corrections of layers that run several times no longer change."""
        held = Held()
        for _ in range(ROUNDS if self._layers.several else 1):
            norms: dict[str, Moments] = {}
            record: RecordedStats = []
            with (
                _normalising(self._model, self._layers, norms, held),
                self._correcting(record, mix, held),
            ):
                self._run(record)
            if self._revise(held, record, norms, mix) <= self._tolerance:
                return record, norms
        raise ModelError(
            f"REPAIR cannot meet its targets in {', '.join(sorted(self._layers.several)[:3])}: the layer runs several "
            f"times, and its corrections still change after {ROUNDS} passes; give each of its uses a layer of its own"
        )

    @property
    def _tolerance(self) -> float:
        values = self._endpoints[0].values()
        floating = [t.dtype for t in values if isinstance(t, Tensor) and t.is_floating_point()]
        return max(16 * max(torch.finfo(dtype).eps for dtype in floating or [torch.float32]), 1e-10)

    def _revise(self, held: Held, record: RecordedStats, norms: dict[str, Moments], mix: Mixture) -> float:
        """Bring `held` nearer to what the pass calls for; return by how much, relatively, it was off."""
        off = 0.0
        for name in self._layers.several:
            if name in norms:
                new = (norms[name].mean, norms[name].variance)
                off = max(off, held.revise_norm(name, new))
            elif name in self._layers.corrected:
                new = self._pooled_correction(record, name, mix)
                off = max(off, held.revise(name, new, self._wanted(name, mix), max(len(r[name]) for r in record)))
        return off

    def _wanted(self, name: str, mix: Mixture) -> ChannelStats:
        return _mixed([_pooled(end, name) for end in self._ends], mix)

    def _pooled_correction(self, record: RecordedStats, name: str, mix: Mixture) -> tuple[Tensor, Tensor]:
        wanted = self._wanted(name, mix)
        return _correction(_pooled(record, name), wanted, shifted=self._is_shifted(name))

    def _is_shifted(self, name: str) -> bool:
        return self._model.get_submodule(name).bias is not None

    def _check_met(self, state: StateDict, mix: Mixture) -> None:
        """Refuse a state whose activations are not what they are to be, whatever the reason."""
        seen = self._observe(state) if self._layers.corrected else []
        for name in self._layers.corrected:
            own, wanted = _pooled(seen, name), self._wanted(name, mix)
            clear = own.std > ROUGH * own.mean.abs()
            worst = torch.where(clear, (own.std - wanted.std).abs() / wanted.std.clamp_min(1e-30), 0).max()
            if worst > ROUGH:
                raise ModelError(
                    f"REPAIR misses its targets at layer '{name}': a channel's spread is off by {100 * worst:.3g} % "
                    f"though one batch was given; is its weight used elsewhere than in its own forward? Untie it first"
                )

    def _run(self, record: RecordedStats) -> None:
        for batch in self._batches:
            record.append({name: [] for name in self._layers.corrected})
            call(self._model, inputs_of(batch, self._to_inputs))

    def _observe(self, state: StateDict) -> RecordedStats:
        load(self._model, state)
        record: RecordedStats = []

        def look(name: str, layer: nn.Module, output: Tensor) -> None:
            record[-1][name].append(_stats(output, channel_axis(layer)))

        with self._hooked(look):
            self._run(record)
        return record

    def _correcting(self, record: RecordedStats, mix: Mixture, held: Held) -> AbstractContextManager[None]:
        def correct(name: str, layer: nn.Module, output: Tensor) -> Tensor:
            axis, seen = channel_axis(layer), record[-1][name]
            seen.append(_stats(output, axis))
            ends = [end[len(record) - 1][name] for end in self._ends]
            if len(seen) > min(map(len, ends)):
                raise ModelError(
                    f"layer '{name}' runs more often in the mixture than at its ends, so that REPAIR has no targets "
                    f"for it; its number of runs must not depend on the weights"
                )
            if name in self._layers.several:
                scale, shift = held.layers.get(name) or _identity(seen[-1])
            else:
                wanted = _mixed([end[len(seen) - 1] for end in ends], mix)
                scale, shift = _correction(seen[-1], wanted, shifted=self._is_shifted(name))
            return output * _along(scale, axis, output) + _along(shift, axis, output)

        return self._hooked(correct)

    @contextmanager
    def _hooked(self, act: Callable[[str, nn.Module, Tensor], Tensor | None]) -> Iterator[None]:
        def hook_of(name: str) -> Callable[..., Tensor | None]:
            return lambda layer, _, output: act(name, layer, output)

        names = self._layers.corrected
        handles = [self._model.get_submodule(name).register_forward_hook(hook_of(name)) for name in names]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _normalising(model: nn.Module, chosen: Layers, moments: dict[str, Moments], held: Held) -> Iterator[None]:
    """Let BatchNorm layers normalise by the batch, and collect the moments of what they receive.

    One that runs several times normalises every time by what is held for it, as it will in the repaired state.
    """
    layers = {name: cast(_BatchNorm, model.get_submodule(name)) for name in chosen.reset}
    momenta = {name: layer.momentum for name, layer in layers.items()}

    def hook_of(name: str) -> Callable[..., None]:
        def look(layer: _BatchNorm, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen = moments.setdefault(name, Moments(layer.num_features, args[0].device))
            if name in chosen.several:
                batch = centre(args[0].movedim(1, 0).flatten(1))
                seen.update(batch.samples, batch.mean, batch.squares)
                return
            mean, variance = cast(Tensor, layer.running_mean).double(), cast(Tensor, layer.running_var).double()
            samples = args[0].numel() // len(mean)
            seen.update(samples, mean, variance * (samples - 1))

        return look

    handles = [layer.register_forward_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        for name, layer in layers.items():
            layer.train(name not in chosen.several)
            layer.momentum = 1.0  # the running statistics are then those of the last batch
            if name in held.norms:
                cast(Tensor, layer.running_mean).copy_(held.norms[name][0])
                cast(Tensor, layer.running_var).copy_(held.norms[name][1])
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, layer in layers.items():
            layer.eval()
            layer.momentum = momenta[name]


def load(model: nn.Module, state: StateDict) -> None:
    """Copy `state` into a private copy of the user's model.

    Raises:
        ModelError: when the state is not one of this model.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ModelError(f"the state is not one of this {type(model).__name__}: {reason}") from error


def _stats(output: Tensor, axis: int) -> ChannelStats:
    if output.is_complex():
        raise ModelError(
            "REPAIR rescales real activations, but a layer of this model gives complex ones: it has no targets for them"
        )
    batch = centre(output.movedim(axis, 0).flatten(1))
    return ChannelStats(batch.samples, batch.mean, (batch.squares / batch.samples).sqrt())


def _pooled(record: RecordedStats, name: str) -> ChannelStats:
    every = [stats for batch in record for stats in batch[name]]
    moments = Moments(every[0].mean.shape[0], every[0].mean.device)
    for stats in every:
        moments.update(stats.samples, stats.mean, stats.samples * stats.std.square())
    return ChannelStats(moments.samples, moments.mean, moments.variance.sqrt())


def _mixed(ends: Sequence[ChannelStats], mix: Mixture) -> ChannelStats:
    return ChannelStats(ends[0].samples, mix([end.mean for end in ends]), mix.between([end.std for end in ends]))


def _correction(own: ChannelStats, wanted: ChannelStats, *, shifted: bool) -> tuple[Tensor, Tensor]:
    """Return `scale` and `shift` with which `scale * x + shift` has the wanted standard deviation, and the mean too.

    Without a bias there is nothing to hold a shift, which is 0 then.
    """
    alive = own.std > CONSTANT * own.mean.abs()
    scale = torch.where(alive, wanted.std / own.std, 1.0)
    return scale, wanted.mean - scale * own.mean if shifted else torch.zeros_like(scale)


def _identity(like: ChannelStats) -> tuple[Tensor, Tensor]:
    return torch.ones_like(like.std), torch.zeros_like(like.mean)


def _keep_spread(state: dict[str, Any], ends: Sequence[StateDict], mix: Mixture, norms: Iterable[list[str]]) -> None:
    """Give the gammas of BatchNorm layers whose signs differ at the ends the mixed spread, not their own."""
    for owners in norms if mix.end is None else ():
        name = f"{owners[0]}.weight" if owners[0] else "weight"
        if name in state:
            gammas = [end[name].detach().to(state[name].device) for end in ends]
            shared = torch.stack([gamma for gamma, weight in zip(gammas, mix.weights, strict=True) if weight != 0])
            differ = (shared < 0).any(dim=0) & (shared > 0).any(dim=0)
            sign = torch.where(state[name] == 0, gammas[mix.nearest], state[name]).sign()
            spread = mix.between([gamma.abs() for gamma in gammas])
            _write(state, owners, "weight", torch.where(differ, sign * spread, state[name]))


def _along(values: Tensor, axis: int, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *[1] * (-axis - 1))


def _names(model: nn.Module) -> dict[nn.Module, list[str]]:
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def _write(state: dict[str, Any], owners: list[str], key: str, value: Tensor) -> None:
    for owner in owners:
        name = f"{owner}.{key}" if owner else key
        state[name] = torch.empty_like(state[name]).copy_(value)


def _rescale(state: dict[str, Any], layer: nn.Module, owners: list[str], scale: Tensor, shift: Tensor) -> None:
    prefix = f"{owners[0]}." if owners[0] else ""
    weight = state[f"{prefix}weight"]
    _write(state, owners, "weight", scaled_weight(layer, weight, scale.to(weight)))
    if layer.bias is not None:
        bias = state[f"{prefix}bias"]
        _write(state, owners, "bias", scale.to(bias) * bias + shift.to(bias))
