"""The functional graph of a model: `torch.export` without strict mode, decomposed until nothing is written in place.

The decomposed graph keeps linear, convolution, layer_norm and attention whole, inlines `no_grad` and `autocast` blocks
and keeps stack traces. It is traced twice, in eval and in train mode, because BatchNorm and dropout differ.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from reticket.errors import ModelError
from reticket.symmetry.cause import Cause


@dataclass(frozen=True)
class Inputs:
    """Example inputs, positional and by keyword.

    Args:
        args: positional inputs.
        kwargs: keyword inputs.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, example_inputs: Any, kwargs: Mapping[str, Any] | None = None) -> "Inputs":
        """Read a tensor, a tuple (or list) of positional inputs or a dict of keyword inputs."""
        extra = dict(kwargs or {})
        if isinstance(example_inputs, Mapping):
            return cls((), {**example_inputs, **extra})
        if isinstance(example_inputs, tuple | list):
            return cls(tuple(example_inputs), extra)
        return cls((example_inputs,), extra)

    def call(self, model: nn.Module) -> Any:
        """Run the model on these inputs."""
        return model(*self.args, **self.kwargs)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back, on leaving, the mode, the attributes and the state of every module, and the random number state."""
    modules = list(model.modules())
    before = [(dict(m.__dict__), dict(m._parameters), dict(m._buffers)) for m in modules]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    versions = [buffer._version for buffer, _ in buffers]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for module, (attributes, parameters, own_buffers) in zip(modules, before, strict=True):
                module.__dict__.clear()
                module.__dict__.update(attributes)
                module._parameters.clear()
                module._parameters.update(parameters)
                module._buffers.clear()
                module._buffers.update(own_buffers)
            with torch.no_grad():
                for (buffer, value), version in zip(buffers, versions, strict=True):
                    if buffer._version != version:
                        buffer.copy_(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings that tracing raises about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def named_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of `state_dict()` themselves, in its order."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


@dataclass(frozen=True, eq=False)
class Trace:
    """One traced graph and what its placeholders and outputs stand for.

    Args:
        mode: "eval" or "train".
        graph: functional graph of aten operators.
        state: placeholder name to state_dict name.
        constants: placeholder name to value, None where the value is not known.
        inputs: placeholder names of the user's inputs in order.
        mutated: index of a graph output to the state_dict name it is written to, None for a constant or an input.
        results: indices of the graph outputs that the model returns.
    """

    mode: str
    graph: fx.Graph
    state: Mapping[str, str]
    constants: Mapping[str, Tensor | None]
    inputs: tuple[str, ...]
    mutated: Mapping[int, str | None]
    results: tuple[int, ...]


def trace(model: nn.Module, inputs: Inputs, *, train: bool) -> Trace:
    """Export the model in the given mode; the model is left as it was.

    Raises:
        ModelError: when `torch.export` cannot trace the model.
    """
    mode = "train" if train else "eval"
    with untouched(model), quiet(), torch.no_grad():
        model.train(train)
        try:
            program = torch.export.export(model, inputs.args, dict(inputs.kwargs), strict=False)
            program = program.run_decompositions({})
        except Exception as error:
            summary = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"torch.export cannot trace {type(model).__name__} in {mode} mode: {summary}; remove control flow that "
                f"depends on tensor values, or discover the traceable part on its own"
            ) from error
    return _read(program, mode, frozenset(named_state(model)))


def _read(program: ExportedProgram, mode: str, names: frozenset[str]) -> Trace:
    state: dict[str, str] = {}
    constants: dict[str, Tensor | None] = {}
    inputs: list[str] = []
    for spec in program.graph_signature.input_specs:
        name, target = spec.arg.name, spec.target
        if spec.kind is InputKind.USER_INPUT:
            inputs.append(name)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and target in names:
            state[name] = str(target)
        else:
            value = program.constants.get(str(target), program.state_dict.get(str(target)))
            constants[name] = value if isinstance(value, Tensor) else None
    mutated: dict[int, str | None] = {}
    results: list[int] = []
    for index, out in enumerate(program.graph_signature.output_specs):
        if out.kind is OutputKind.BUFFER_MUTATION or out.kind.name == "PARAMETER_MUTATION":
            mutated[index] = out.target if out.target in names else None
        elif out.kind is OutputKind.USER_INPUT_MUTATION:
            mutated[index] = None
        else:
            results.append(index)
    return Trace(mode, program.graph, state, constants, tuple(inputs), mutated, tuple(results))


def module_of(node: fx.Node) -> tuple[str, int, str]:
    """Return path, call number (from 0) and class name of the innermost module that a node belongs to."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "", 0, ""
    key, (path, kind) = list(stack.items())[-1]
    _, _, call = key.rpartition("@")
    return path, int(call) if "@" in key and call.isdigit() else 0, kind if isinstance(kind, str) else kind.__name__


def source_of(node: fx.Node) -> str:
    """Return `file:line` of the user's line that made this node, empty when it is not known."""
    frames = [
        line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip().startswith("File")
    ]
    own = [frame for frame in frames if "/torch/" not in frame] or frames
    if not own:
        return ""
    file, line = own[-1].split(", ")[:2]
    return f"{file.split('/')[-1].strip().removeprefix('File ').strip(chr(34))}:{line.removeprefix('line ')}"


def cause_of(node: fx.Node, reason: str) -> Cause:
    """Return the cause that names this node's operator, module and source line."""
    return Cause(reason, str(node.target), module_of(node)[0], source_of(node))
