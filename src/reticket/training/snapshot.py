"""A run's state as a value, and back: taken, checked, loaded, and brought to the other processes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reticket.errors import ConfigError
from reticket.rng import global_state, seed_for
from reticket.training.optimisers import GrowingOptimiser
from reticket.training.randomness import set_global_state
from reticket.training.run import TrainingRun
from reticket.training.state import EpochRecord, TrainResult, TrainState


def state_of(run: TrainingRun) -> TrainState:
    """Return a copy of everything that decides the rest of a run; all processes take part and get the same."""
    rng = global_state(run.device) if run.randomness is None else run.randomness.state()
    return TrainState(
        weights={name: _copy(tensor) for name, tensor in run.model.state_dict().items()},
        momentum={name: _copy(view) for name, view in _velocity(run).items()},
        rng={_of(rank, name): t for name, own in rng.items() for rank, t in enumerate(run.ranks.gather(own))},
        epoch_losses=run.epoch_losses().cpu(),
        step=run.step,
        start=run.start,
        mask={name: _copy(kept) for name, kept in run.mask.items()},
        history=tuple(run.history),
        seconds=run.seconds,
        optimizer={name: _copy(tensor) for name, tensor in run.optimiser.state.items()},
        average={name: _copy(tensor) for name, tensor in _average(run).items()},
    )


def result_of(run: TrainingRun) -> TrainResult:
    """Return where a run is, and what it took to get there."""
    steps = run.step - run.start
    return TrainResult(state_of(run), steps=steps, epochs=steps / run.steps_in_epoch, seconds=run.seconds)


def check_state(run: TrainingRun, state: TrainState) -> None:
    """See that a state is one that this run can have been in.

    Raises:
        ConfigError: when its tensors or its counts are not those of this run.
    """
    weights, velocity = run.model.state_dict(), _velocity(run)
    kept = {name: torch.empty(t.shape, dtype=torch.bool, device="meta") for name, t in velocity.items()}
    _check_forms(state.weights, weights)
    _check_forms(state.momentum, velocity)
    if not isinstance(run.optimiser, GrowingOptimiser):
        _check_forms(state.optimizer, run.optimiser.state)
    _check_forms(state.average, _average(run))
    _check_forms(state.mask, {name: tensor for name, tensor in kept.items() if name in state.mask})
    if _counts(state) != _counts_at(run, state.step):
        raise ConfigError(
            f"the state has {len(state.history)} complete epochs and {len(state.epoch_losses)} losses, which is "
            f"not what this run has at step {state.step}; give the state of this run"
        )
    _check_generators(run, state.rng)


def _check_forms(seen: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    forms = [{name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} for tensors in (seen, own)]
    for name in {**forms[0], **forms[1]}:
        if forms[0].get(name) != forms[1].get(name):
            there, here = (_form(form.get(name)) for form in forms)
            raise ConfigError(
                f"the state's tensors do not fit this model ('{name}' has {there} there and {here} here); "
                f"continue with the model that it came from"
            )


def _check_generators(run: TrainingRun, states: Mapping[str, Tensor]) -> None:
    if "cpu" not in states:
        raise ConfigError("the state has no generator 'cpu'; give the state of this run")
    for name, rng in states.items():
        kind = name.partition(":")[0]
        if kind == "cpu" or kind == run.device.type:
            try:
                torch.Generator(run.device if kind == "cuda" else "cpu").set_state(rng)
            except (RuntimeError, TypeError) as error:
                first = str(error).splitlines()[0]
                raise ConfigError(f"the state's generator '{name}' cannot be taken up: {first}") from None


def _counts(state: TrainState) -> tuple[list[tuple[int, int]], int]:
    return [(record.epoch, record.step) for record in state.history], len(state.epoch_losses)


def _counts_at(run: TrainingRun, step: int) -> tuple[list[tuple[int, int]], int]:
    """Return what a state at a step has: epoch and step of every record, and the number of losses since."""
    steps = run.steps_in_epoch
    epochs = range(run.start // steps, step // steps)
    return [(epoch, (epoch + 1) * steps) for epoch in epochs], step - max(run.start, step - step % steps)


def load_state(run: TrainingRun, state: TrainState) -> None:
    """Bring a run to a state of it. Its mask is that of the state, or its own where the state was made without one.

    Raises:
        ConfigError: when it is of another run.
    """
    check_state(run, state)
    run.model.load_state_dict(dict(state.weights))
    for name, view in _velocity(run).items():
        view.copy_(state.momentum[name])
    if isinstance(run.optimiser, GrowingOptimiser):
        run.optimiser.load_state(state.optimizer)
    else:
        for name, tensor in run.optimiser.state.items():
            tensor.copy_(state.optimizer[name])
    for name, tensor in _average(run).items():
        tensor.copy_(state.average[name])
    if mask := state.mask or run.mask:
        run.set_mask(mask)
    _set_generators(run, state.rng)
    run.losses = list(state.epoch_losses.to(run.device).unbind())
    run.history, run.step, run.earlier = list(state.history), state.step, state.seconds


def follow_first(run: TrainingRun, state: TrainState | None) -> None:
    """Bring every process to where the first one is; the others need neither its files nor its results.

    Args:
        run: this process's.
        state: what the first process has loaded; of no meaning in the others.
    """
    said = None
    if state is not None:
        rng = {name: bytes(t.tolist()).hex() for name, t in state.rng.items()}
        said = state.metadata() | {"rng": rng, "masked": list(run.mask)}
    said = run.ranks.broadcast_object(said)
    for tensor in (*run.vectors(), *run.model.buffers()):
        run.ranks.broadcast_(tensor)
    if isinstance(run.optimiser, GrowingOptimiser) and not run.ranks.alone:
        _share_optimiser(run, run.optimiser)
    _share_mask(run, said["masked"] if said else ())
    if said is None or run.ranks.first:
        return
    rng = {
        name: torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8, device="cpu")
        for name, text in said["rng"].items()
    }
    _set_generators(run, rng)
    run.history = [EpochRecord(**record) for record in said["history"]]
    run.step, run.earlier = said["step"], said["seconds"]
    # the first process holds the sums
    run.losses = [run.parameters.weights.new_zeros(()) for _ in range(run.step % run.steps_in_epoch)]


def _share_optimiser(run: TrainingRun, optimiser: GrowingOptimiser) -> None:
    """Give the first process's state of an optimiser to all, who cannot know which tensors there are."""
    state = {name: tensor.to(run.device) for name, tensor in optimiser.state.items()}  # what every backend can send
    forms = [[name, list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in state.items()]
    for name, shape, kind in run.ranks.broadcast_object(forms):
        if not run.ranks.first:
            state[name] = torch.empty(shape, dtype=getattr(torch, kind), device=run.device)
        run.ranks.broadcast_(state[name])
    if not run.ranks.first:
        optimiser.load_state({name: state[name] for name in state})


def _share_mask(run: TrainingRun, names: Sequence[str]) -> None:
    """Give the first process's mask of these parameters to all."""
    mask = {}
    for name in names:
        kept = run.mask[name] if run.ranks.first else _velocity(run)[name].bool()
        as_bytes = kept.to(torch.uint8).contiguous()  # what every backend can send
        run.ranks.broadcast_(as_bytes)
        mask[name] = as_bytes.bool()
    if mask:
        run.set_mask(mask)


def _average(run: TrainingRun) -> Mapping[str, Tensor]:
    return {} if run.average is None else run.average.tensors


def _velocity(run: TrainingRun) -> dict[str, Tensor]:
    return run.parameters.views(run.parameters.gradient)


def _set_generators(run: TrainingRun, rng: Mapping[str, Tensor]) -> None:
    """Take the generators' states that a process of this rank had; where there was none, a draw of its own."""
    rank = run.ranks.rank
    own = {name: rng[_of(rank, name)] for name in ("cpu", "cuda") if _of(rank, name) in rng}
    if "cpu" not in own:
        torch.default_generator.manual_seed(seed_for(*run.batches.rng_label, "rank", rank, run.step))
    set_global_state(own, run.device)


def _form(form: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "no tensor" if form is None else f"shape {form[0]} of {str(form[1]).removeprefix('torch.')}"


def _of(rank: int, name: str) -> str:
    return f"{name}:{rank}" if rank else name


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
