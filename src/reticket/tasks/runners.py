"""The runner of each kind of task: reads its inputs, calls the science, returns values and tensors.

A runner is decided by its task alone; `context` says where to compute, never what.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reticket.data import DataSource
from reticket.experiment import Context, Output, Result, Task, collective, isolated
from reticket.matching import MatchedAlignment, match
from reticket.rng import generator_for
from reticket.symmetry import discover, load_into
from reticket.tasks.dynamics import dynamics_in
from reticket.tasks.inputs import (
    checkpoints_in,
    dataset_for,
    model_for,
    network_of,
    reading_for,
    symmetry_in,
    thawed,
)
from reticket.tasks.matchers import given_to_matcher
from reticket.tasks.method_inputs import method_inputs
from reticket.tasks.recipes import recipe_in
from reticket.tasks.tensors import ALIGNMENT, LEFT_OUT, MASK, WEIGHTS, mask_in, named, stripped
from reticket.tickets import Mask, Pruning, get_method, known_prunable, prune_round, true_density
from reticket.training import (
    Callback,
    LogMetrics,
    Notices,
    Placement,
    ReportProgress,
    Resume,
    Span,
    TrainResult,
    TrainState,
    evaluate,
    train,
)

RUNNERS = {
    kind: f"{__name__}:{runner}"
    for kind, runner in {
        "symmetry": "run_symmetry",
        "dense": "run_dense",
        "prune-round": "run_prune_round",
        "match": "run_match",
        "sparse": "run_sparse",
    }.items()
}
"""By kind of task the path of its runner; checks bring their own."""


@isolated
def run_symmetry(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Discover and prove the model's permutation symmetry, once for the whole experiment."""
    model = model_for(task, "example")
    shape, generator = (2, *task.spec["input_shape"]), generator_for("example input")
    if "vocabulary" in task.spec:
        example = torch.randint(task.spec["vocabulary"], shape, generator=generator, device="cpu")
    else:
        example = torch.randn(shape, generator=generator, device="cpu")
    found = discover(model, example)
    if not found.groups:
        context.tell(
            "no unit of this model may be permuted, so permuted is naive (what a model takes and returns keeps its "
            "order, as does what is tied to it); see reticket inspect"
        )
    return Output({"symmetry": found.to_json(), "log10_order": found.log10_order})


@collective
def run_dense(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Bring one network's dense training to a position, from the nearest earlier one that is stored."""
    spec = task.spec
    dataset, model = dataset_for(task, context), model_for(task, *spec["network"])
    start = context.earlier[0][1] if context.earlier else None
    state = TrainState.from_tensors(dict(start.tensors), start.values["state"]) if start else None
    before = state.step if state else 0
    result = train(
        model,
        dataset,
        recipe_in(spec),
        rng_label=tuple(spec["order"]),
        span=Span(stop=spec["at"]),
        resume=_resume(context, state),
        callbacks=_callbacks(context, before),
        device=Placement(context.device, context.ranks),
    )
    if not context.ranks.first:
        return Output()
    judged = _judged(task, model, dataset, result, context)
    values = {
        **judged.values,
        "true_sparsity": 0.0,
        "epochs": result.epochs - before / max(1, result.steps) * result.epochs,
        "state": {**result.state.metadata(), "seconds": 0.0},  # a time is provenance; equal tasks give equal bytes
    }
    return Output(values, {**result.state.tensors(), **judged.tensors})


@collective
def run_prune_round(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Prune once to an exact count and retrain: one round of iterative magnitude pruning."""
    spec, pruning = task.spec, Pruning(**task.spec["prune"])
    model, before = model_for(task, "structure"), inputs["previous"].tensors
    start = prune_round(
        stripped(before, WEIGHTS),
        spec["density"],
        names=known_prunable(model, pruning.exclude, pruning.include),
        within=mask_in(inputs["previous"]),
        style=pruning.style,
        rewound=stripped(inputs["rewound"].tensors, WEIGHTS) if "rewound" in inputs else None,
        scope=pruning.scope,
        pattern=pruning.pattern,
    )
    return _train_sparse(task, context, model, start.weights, start.mask)


def run_match(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Match A's units to B's at one point of their training or at several, on data where the matcher asks for it."""
    spec, symmetry = task.spec, symmetry_in(inputs)
    of_a, of_b = (
        [network_of(task, result).to(context.device) for result in checkpoints_in(inputs, side)] for side in "ab"
    )
    batches = reading_for(task, dataset_for(task, context), "train", context) if "samples" in spec else None
    alignment = match(of_a, of_b, symmetry, batches, spec["method"], **given_to_matcher(spec, inputs, context.device))
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
        named(ALIGNMENT, {name: p.index for name, p in alignment.permutations.items()})
        | named(LEFT_OUT, alignment.left_out),
    )


@collective
def run_sparse(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Make a method's initial sparse network and train it to the end."""
    method, options = get_method(task.spec["method"]), thawed(task.spec.get("options", {}))
    start = method(method_inputs(task, method.needs_for(options), inputs, context), options)
    return _train_sparse(task, context, model_for(task, "structure"), start.weights, start.mask)


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


def _judged(task: Task, model: nn.Module, dataset: DataSource, result: TrainResult, context: Context) -> Output:
    """Return metric and loss of what was trained, with the logits of classes; they are written down beside epochs."""
    options: dict[str, Any] = {"weights": result.weights, "device": context.device}
    if "objective" in task.spec:
        found = evaluate(model, dataset, loss=task.spec["objective"], **options)
        metric = found.objective.metric
        values = {} if metric is None or found.metric is None else {metric.name: found.metric}
        tensors: dict[str, Tensor] = {}
    else:
        found = evaluate(model, dataset, **options)
        values, tensors = {"accuracy": found.accuracy}, {"logits": found.logits}
    context.on_metrics(result.state.step, {**values, "test_loss": found.loss})
    return Output({**values, "loss": found.loss}, tensors)


def _by_masked_names(model: nn.Module, weights: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Return weights without the other names of masked ones that are tied: they are pruned under the mask's name."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), []).append(name)
    others = {name for tied in names.values() if any(n in mask for n in tied) for name in tied if name not in mask}
    return {name: tensor for name, tensor in weights.items() if name not in others}


def _train_sparse(task: Task, context: Context, model: nn.Module, weights: Mapping[str, Tensor], mask: Mask) -> Output:
    spec, dataset = task.spec, dataset_for(task, context)
    load_into(model, _by_masked_names(model, weights, mask))
    recipe, start = recipe_in(spec), spec["start"]
    result = train(
        model,
        dataset,
        recipe,
        rng_label=tuple(spec["order"]),
        mask=mask,
        span=Span(start),
        resume=_resume(context),
        callbacks=[*dynamics_in(spec), *_callbacks(context, start)],
        device=Placement(context.device, context.ranks),
    )
    if not context.ranks.first:
        return Output()
    judged = _judged(task, model, dataset, result, context)
    mask = Mask(result.mask) if "dynamics" in spec else mask
    values = {
        **judged.values,
        "epochs": result.epochs,
        "kept": mask.kept,
        "true_sparsity": 1 - true_density(mask, model),
    }
    return Output(values, named(WEIGHTS, result.weights) | named(MASK, mask) | dict(judged.tensors))
