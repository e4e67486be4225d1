"""The runner of each kind of task: reads its inputs, calls the science, returns values and tensors.

A runner is decided by its task alone; `context` says where to compute, never what.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reticket.analysis import overlap
from reticket.connectivity import barrier
from reticket.data import DataSource, Reading, open_dataset
from reticket.data.source import Split
from reticket.data.subset import drawn_indices
from reticket.errors import DataError
from reticket.experiment import Context, Output, Result, Task, collective, isolated
from reticket.matching import MatchedAlignment, match, memory_options
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover, load_into, random_alignment
from reticket.tasks.matchers import matcher_options
from reticket.tickets import Mask, MethodInputs, Ticket, get_method, prunable, prune_round, true_density
from reticket.training import (
    Callback,
    Evaluation,
    LogMetrics,
    Notices,
    Placement,
    Recipe,
    ReportProgress,
    Resume,
    Span,
    TrainResult,
    TrainState,
    evaluate,
    evaluation_batch,
    train,
)
from reticket.types import Permutation

RUNNERS = {
    kind: f"{__name__}:{runner}"
    for kind, runner in {
        "symmetry": "run_symmetry",
        "dense": "run_dense",
        "prune-round": "run_prune_round",
        "match": "run_match",
        "sparse": "run_sparse",
        "barrier": "run_barrier",
        "overlap": "run_overlap",
    }.items()
}
_loading = threading.Lock()
WEIGHTS, MASK, ALIGNMENT = "weights/", "mask/", "alignment/"  # TrainState names its weights like this too


@isolated
def run_symmetry(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Discover and prove the model's permutation symmetry, once for the whole experiment."""
    model = _model(task, "example")
    example = torch.randn(2, *task.spec["input_shape"], generator=generator_for("example input"), device="cpu")
    found = discover(model, example)
    return Output({"symmetry": found.to_json(), "log10_order": found.log10_order})


@collective
def run_dense(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Bring one network's dense training to a position, from the nearest earlier one that is stored."""
    spec = task.spec
    dataset, model = _dataset(task, context), _model(task, *spec["network"])
    start = context.earlier[0][1] if context.earlier else None
    state = TrainState.from_tensors(dict(start.tensors), start.values["state"]) if start else None
    before = state.step if state else 0
    result = train(
        model,
        dataset,
        _recipe(spec["recipe"]),
        order=tuple(spec["order"]),
        span=Span(stop=spec["at"]),
        resume=_resume(context, state),
        callbacks=_callbacks(context, before),
        device=Placement(context.device, context.ranks),
    )
    if not context.ranks.first:
        return Output()
    found = _evaluated(model, dataset, result, context)
    values = {
        "accuracy": found.accuracy,
        "loss": found.loss,
        "true_sparsity": 0.0,
        "epochs": result.epochs - before / max(1, result.steps) * result.epochs,
        "state": {**result.state.metadata(), "seconds": 0.0},  # a time is provenance; equal tasks give equal bytes
    }
    return Output(values, {**result.state.tensors(), "logits": found.logits})


@collective
def run_prune_round(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Prune once to an exact count and retrain: one round of iterative magnitude pruning."""
    spec, prune = task.spec, task.spec["prune"]
    model, before = _model(task, "structure"), inputs["previous"].tensors
    start = prune_round(
        _stripped(before, WEIGHTS),
        spec["density"],
        names=prunable(model, prune["exclude"]),
        within=_mask(inputs["previous"]),
        style=prune["style"],
        rewound=_stripped(inputs["rewound"].tensors, WEIGHTS) if "rewound" in inputs else None,
        scope=prune["scope"],
    )
    return _train_sparse(task, context, model, start.weights, start.mask)


def run_match(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Match A's units to B's at one point of their training or at several, on data where the matcher asks for it."""
    spec, symmetry = task.spec, _symmetry(inputs)
    of_a, of_b = ([_with_weights(task, one).to(context.device) for one in _checkpoints(inputs, n)] for n in "ab")
    batches = _reading(task, _dataset(task, context), "train", context) if "samples" in spec else None
    start = _alignment(inputs, "start") if "start" in inputs else None
    options = memory_options(spec["method"], context.device) | _thawed(matcher_options(spec))
    alignment = match(of_a, of_b, symmetry, batches, method=spec["method"], start=start, **options)
    samples = alignment.examples if isinstance(alignment, MatchedAlignment) else batches.inputs if batches else 0
    groups = {
        name: {
            "size": group.size,
            "copies": group.copies,
            "correlation": alignment.quality[name].correlation,
            "margin": alignment.quality[name].margin,
        }
        for name, group in symmetry.groups.items()
        if name in alignment.quality  # a matcher need not say how well it did
    }
    return Output(
        {"groups": groups, "samples": samples},
        _named(ALIGNMENT, {name: p.index for name, p in alignment.permutations.items()}),
    )


@collective
def run_sparse(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Make a method's initial sparse network and train it to the end."""
    method = get_method(task.spec["method"])
    start = method(_method_inputs(task, method.needs, inputs))
    return _train_sparse(task, context, _model(task, "structure"), start.weights, start.mask)


def run_barrier(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Walk the line between two networks."""
    spec, dataset = task.spec, _dataset(task, context)
    a, b = (_stripped(inputs[side].tensors, WEIGHTS) for side in ("a", "b"))
    if "alignment" in inputs:
        a = _alignment(inputs).apply(a)
    model = _model(task, "structure").to(context.device)
    train, test = (_reading(task, dataset, split, context) for split in ("train", "test"))
    curve = barrier(
        model,
        a,
        b,
        replace(test, batch_size=evaluation_batch(model, dataset.input_shape, test.batch_size)),
        torch.linspace(0, 1, spec["alphas"], dtype=torch.float64, device="cpu").tolist(),
        repair=spec["repair"],
        repair_batches=train if spec["repair"] else None,
    )
    return Output(
        {
            "alphas": list(curve.alphas),
            "loss": list(curve.loss),
            "accuracy": list(curve.accuracy),
            "loss_barrier": curve.loss_barrier,
            "accuracy_barrier": curve.accuracy_barrier,
        }
    )


def run_overlap(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Compare A's mask, moved and unmoved, with B's own; the whole network stands under the empty name."""
    mask_a, mask_b = _required_mask(inputs["mask_a"]), _required_mask(inputs["mask_b"])
    values: dict[str, Any] = {}
    for name, mask in (("permuted", _alignment(inputs).apply(mask_a)), ("naive", mask_a)):
        found = overlap(mask, mask_b)
        layers = {"": found.total, **found.layers}
        values[name] = {layer: {"overlap": o.share, "chance": o.chance} for layer, o in layers.items()}
    return Output(values)


# ---------------------------------------------------------------- parts of several runners


def _resume(context: Context, state: TrainState | None = None) -> Resume:
    """Return how a training goes on: from the checkpoint in the task's folder, or an earlier state."""
    return Resume(context.scratch / "train.safetensors", state=state, on_checkpoint_discarded=context.tell)


def _callbacks(context: Context, before: int) -> list[Callback]:
    """Return what tells of a training that goes on from the step `before`."""
    return [
        ReportProgress(lambda p: context.progress((p.step - before) / max(1, p.stop - before))),
        Notices(context.tell),
        LogMetrics(context),
    ]


def _evaluated(model: nn.Module, dataset: DataSource, result: TrainResult, context: Context) -> Evaluation:
    """Evaluate what was trained, and have its figures written down beside those of its epochs."""
    found = evaluate(model, dataset, weights=result.weights, device=context.device)
    context.on_metrics(result.state.step, {"accuracy": found.accuracy, "test_loss": found.loss})
    return found


def _train_sparse(task: Task, context: Context, model: nn.Module, weights: Mapping[str, Tensor], mask: Mask) -> Output:
    spec, dataset = task.spec, _dataset(task, context)
    load_into(model, weights)
    recipe, start = _recipe(spec["recipe"]), spec["start"]
    result = train(
        model,
        dataset,
        recipe,
        order=tuple(spec["order"]),
        mask=mask,
        span=Span(start),
        resume=_resume(context),
        callbacks=_callbacks(context, start),
        device=Placement(context.device, context.ranks),
    )
    if not context.ranks.first:
        return Output()
    found = _evaluated(model, dataset, result, context)
    values = {
        "accuracy": found.accuracy,
        "loss": found.loss,
        "epochs": result.epochs,
        "kept": mask.kept,
        "true_sparsity": 1 - true_density(mask, model),
    }
    return Output(values, _named(WEIGHTS, result.weights) | _named(MASK, mask) | {"logits": found.logits})


def _method_inputs(task: Task, needs: tuple[str, ...], inputs: Mapping[str, Result]) -> MethodInputs:
    """Return the values a method asked for, made from the results of the tasks it was planned with."""
    sources = {
        "ticket": lambda: Ticket.of(_stripped(inputs["ticket"].tensors, WEIGHTS), _required_mask(inputs["ticket"])),
        "pruned_a": lambda: _stripped(inputs["ticket"].tensors, WEIGHTS),
        "trained_a": lambda: _stripped(inputs["trained_a"].tensors, WEIGHTS),
        "rewound_a": lambda: _stripped(inputs["rewound_a"].tensors, WEIGHTS),
        "rewound_b": lambda: _stripped(inputs["rewound_b"].tensors, WEIGHTS),
        "mask_b": lambda: _required_mask(inputs["mask_b"]),
        "alignment": lambda: _alignment(inputs),
        "random_alignment": lambda: random_alignment(_symmetry(inputs), _generator(task)),
        "generator": lambda: _generator(task),
    }
    return MethodInputs(frame=task.spec.get("frame", "init"), **{need: sources[need]() for need in needs})


def _generator(task: Task) -> torch.Generator:
    return generator_for(*task.spec["random"])


def _recipe(values: Mapping[str, Any]) -> Recipe:
    return Recipe(**values)


def _model(task: Task, *labels: str | int) -> nn.Module:
    """Return the experiment's model, initialised by the generator of `labels`."""
    model = task.spec["model"]
    return build_model(model["name"], generator=generator_for(*labels, "init"), **_thawed(model["params"]))


def _with_weights(task: Task, result: Result) -> nn.Module:
    model = _model(task, "structure")
    load_into(model, _stripped(result.tensors, WEIGHTS))
    return model


def _checkpoints(inputs: Mapping[str, Result], side: str) -> list[Result]:
    """Return the networks to be matched on one side: `a`, or `a0`, `a1` and so on."""
    if side in inputs:
        return [inputs[side]]
    return [inputs[f"{side}{n}"] for n in range(len(inputs)) if f"{side}{n}" in inputs]


def _dataset(task: Task, context: Context) -> DataSource:
    data = task.spec["data"]
    chosen = tuple(data.get(key) for key in ("train_size", "test_size", "subset_seed"))
    params = json.dumps(_thawed(data.get("params") or {}), sort_keys=True)
    dataset, found = _loaded(data["name"], context.settings.get("data"), params, *chosen)
    if found != data["fingerprint"]:
        raise DataError(
            f"data set '{data['name']}' is not what it was when the run was planned (sha256 {found[:8]}, planned "
            f"{data['fingerprint'][:8]}); its files or its loader changed, or the loader draws at random: run again"
        )
    return dataset


def _reading(task: Task, dataset: DataSource, split: Split, context: Context) -> Reading:
    """Return a part of the data as batches: `samples` inputs drawn for this kind of task, or all."""
    drawn = drawn_indices(dataset.size(split), task.spec["samples"], task.kind, split)
    return Reading(dataset, split, task.spec["batch_size"], drawn, context.device)


def _loaded(*arguments: Any) -> tuple[DataSource, str]:
    with _loading:  # else threads that begin together would each read the same files
        return _read(*arguments)


@lru_cache(maxsize=2)
def _read(
    name: str, folder: str | None, params: str, train_size: int | None, test_size: int | None, subset_seed: int
) -> tuple[DataSource, str]:
    dataset = open_dataset(
        name,
        folder=Path(folder) if folder else None,
        train_size=train_size,
        test_size=test_size,
        subset_seed=subset_seed,
        params=json.loads(params),
    )
    return dataset, dataset.fingerprint()


def _symmetry(inputs: Mapping[str, Result]) -> Symmetry:
    return _parsed_symmetry(inputs["symmetry"].values["symmetry"])


@lru_cache(maxsize=4)
def _parsed_symmetry(text: str) -> Symmetry:
    return Symmetry.from_json(text)


def _alignment(inputs: Mapping[str, Result], name: str = "alignment") -> Alignment:
    indices = _stripped(inputs[name].tensors, ALIGNMENT)
    return Alignment(_symmetry(inputs), {name: Permutation(index) for name, index in indices.items()})


def _required_mask(result: Result) -> Mask:
    mask = _mask(result)
    assert mask is not None, "a pruned network was planned here"
    return mask


def _mask(result: Result) -> Mask | None:
    found = _stripped(result.tensors, MASK)
    return Mask(found) if found else None


def _stripped(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _thawed(value: Any) -> Any:
    """Return a deeply frozen spec value as plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
