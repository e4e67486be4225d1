"""The functional graph of a model: `torch.export` without strict mode, decomposed until nothing is written in place.

The decomposed graph keeps linear, convolution, layer_norm and attention whole, inlines `no_grad` and `autocast` blocks
and keeps stack traces. It is traced in eval mode, and in train mode where the model calls other functions there.
"""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from io import StringIO
from traceback import extract_tb
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import tree_flatten, tree_structure

from reticket.errors import ModelError
from reticket.symmetry.cause import Cause
from reticket.symmetry.clashes import leave_out, to_trace, traced_names
from reticket.symmetry.decomposed import decomposed
from reticket.symmetry.eager import eager
from reticket.symmetry.functional import functional, has_plain_shape
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.replay import NOT_THE_USERS, Read, ReadRecorder, replaying
from reticket.symmetry.untouched import untouched

DERIVES = (
    "its forward takes derivatives (torch.autograd.grad, torch.func.grad), which torch.export cannot trace; discover "
    "the part that it differentiates on its own: what keeps a function keeps its derivatives by the inputs"
)
VALUES = [["item"], ["_local_scalar_dense"], ["nonzero"], ["is_nonzero"], ["equal"], ["allclose"]]
DATA_DEPENDENT = "GuardOnDataDependentSymNode"
SPARSE = re.compile(r"storage of Sparse\w*TensorImpl|Sparse \w+ tensors do not have strides")
OPAQUE = re.compile(r"Found <class '([^']+)'> in output, which is not a known type")


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

    def leaves(self) -> list[Any]:
        """Return the inputs with all containers taken apart."""
        return tree_flatten((self.args, dict(self.kwargs)))[0]

    def call(self, model: nn.Module) -> Any:
        """Run the model on these inputs."""
        return model(*self.args, **self.kwargs)


def opened(value: Any) -> Any:
    """Return what a model gave with every dataclass in it as a dict of its fields, which `torch.export` takes."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind(opened(one) for one in value)
    if kind is dict:
        return {key: opened(one) for key, one in value.items()}
    if is_dataclass(kind) and tree_structure(value).is_leaf():
        return {one.name: opened(getattr(value, one.name)) for one in fields(kind)}
    return value


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings that tracing raises and logs about itself."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(max(before, logging.WARNING))
        try:
            yield
        finally:
            logging.disable(before)


@contextmanager
def lstm_states(model: nn.Module) -> Iterator[None]:
    """Trace the final states of an LSTM in the shape of its initial ones; torch 2.11 gives them one axis more."""
    if not any(isinstance(module, nn.LSTM) for module in model.modules()):
        yield
        return
    one_layer = decompositions.one_layer_lstm

    @wraps(one_layer)
    def shaped(inputs: Tensor, initial: Sequence[Tensor], *args: Any, **kwargs: Any) -> tuple[Tensor, list[Tensor]]:
        output, final = one_layer(inputs, initial, *args, **kwargs)
        return output, [last.view_as(first) for last, first in zip(final, initial, strict=True)]

    FakeTensorMode.cache_clear()  # it may hold what another trace in this process was given
    decompositions.one_layer_lstm = shaped
    try:
        yield
    finally:
        decompositions.one_layer_lstm = one_layer


@dataclass(frozen=True, eq=False)
class Trace:
    """One traced graph and what its placeholders and outputs stand for.

    Args:
        mode: "eval" or "train".
        graph: functional graph of aten operators.
        state: placeholder name to state_dict name.
        constants: placeholder name to value, None where the value is not known or may be another one tomorrow: what a
            module holds outside its state_dict can be set, and no permutation moves it.
        inputs: placeholder names of the user's inputs in order.
        mutated: index of a graph output to the state_dict name it is written to, None for a constant or an input.
        results: indices of the graph outputs that the model returns.
        reads: values that were given again while tracing; the tensors they were read from are further outputs, which
            may not move.
        held: placeholder name to what a module holds outside its state_dict as it is now, to run the graph with.
    """

    mode: str
    graph: fx.Graph
    state: Mapping[str, str]
    constants: Mapping[str, Tensor | None]
    inputs: tuple[str, ...]
    mutated: Mapping[int, str | None]
    results: tuple[int, ...]
    reads: tuple[Read, ...] = ()
    held: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> frozenset[str]:
        """Return `file:line` of every line at which the traced run read a value, whether answered or as a symbol."""
        own = [source_of(node) for node in self.graph.nodes if str(node.target).split(".")[1:2] in VALUES]
        return frozenset([*own, *(read.forward for read in self.reads)])


def trace(model: nn.Module, inputs: Inputs, *, train: bool, known: Callable[[Any], bool] | None = None) -> Trace:
    """Export the model in the given mode; the model is left as it was.

    Where values decide about control flow or shapes, the values of a concrete run are given again while tracing.

    Args:
        model: the model.
        inputs: example inputs.
        train: the mode.
        known: whether a rule covers an operator; a functional graph of such operators is not decomposed, and other
            operators are, as far as torch knows how. None: no operator is taken apart.

    Raises:
        ModelError: when `torch.export` cannot trace the model.
    """
    names = traced_names(model, named_state(model))
    with untouched(model), quiet(), lstm_states(model), torch.no_grad():
        model.train(train)
        recorder: ReadRecorder | None = None
        try:
            return _read(_export(model, inputs, known), train, names)
        except Exception as error:
            refused = error
        try:
            recorder = _recorded(model, inputs)
            if recorder.reads:
                reads = tuple(recorder.reads)
                with replaying(model, reads) as seen:
                    return _read(_export(model, inputs, known), train, names, reads, len(seen))
        except Exception as error:
            refused = error if _is_understood(error) or not _is_understood(refused) else refused
    where = f"torch.export cannot trace {type(model).__name__} in {'train' if train else 'eval'} mode"
    reason = DERIVES if recorder is not None and recorder.derives else _reason(refused)
    raise ModelError(f"{where}: {reason}") from refused


def _is_understood(error: Exception) -> bool:
    """Whether an error says what the tracer stumbles over; others may come of the values that it was given again."""
    known = isinstance(error, ModelError) or type(error).__name__ == DATA_DEPENDENT
    return known or any(pattern.search(str(error)) for pattern in (OPAQUE, SPARSE))


def _reason(error: Exception) -> str:
    """Return what tracing stumbled over and what to do about it."""
    if opaque := OPAQUE.search(str(error)):
        return (
            f"its output holds a {opaque[1].rpartition('.')[2]}, which torch.export cannot take apart; have "
            f"it return tensors, tuples and dicts alone (models of transformers: config.use_cache = False), or wrap it"
        )
    if SPARSE.search(str(error)):
        return (
            "it holds a sparse tensor that is neither a parameter nor a buffer, which torch.export cannot take in; "
            "register it, register_buffer('name', tensor, persistent=False) keeps it out of the state_dict"
        )
    line = _line_of(error)
    summary = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if type(error).__name__ == DATA_DEPENDENT:
        summary = f"a size or a decision at {line or 'an unknown line'} depends on values"
    at = f" at {line}" if line and line not in summary else ""
    return (
        f"{summary.rstrip('.')}{at}; remove control flow and shapes that depend on tensor values, or discover the "
        f"traceable part on its own"
    )


def _line_of(error: Exception) -> str:
    """Return `file:line` of the innermost line of the user's that an error came through."""
    frames = [f for f in extract_tb(error.__traceback__) if not any(text in f.filename for text in NOT_THE_USERS)]
    return f"{frames[-1].filename.split('/')[-1]}:{frames[-1].lineno}" if frames else ""


def _recorded(model: nn.Module, inputs: Inputs) -> ReadRecorder:
    with untouched(model), eager(), ReadRecorder() as recorder:
        inputs.call(model)
    return recorder


def _export(model: nn.Module, inputs: Inputs, known: Callable[[Any], bool] | None) -> ExportedProgram:
    """Return a program whose graph is functional and whose shapes are numbers; the caller restores `model.forward`."""
    forward = model.forward
    model.forward = wraps(forward)(lambda *args, **kwargs: opened(forward(*args, **kwargs)))
    with redirect_stderr(StringIO()):  # a failing export prints its graph
        program = torch.export.export(outer := to_trace(model), inputs.args, dict(inputs.kwargs), strict=False)
    leave_out(outer, program)
    odd = next((node for node in program.graph.nodes if not has_plain_shape(node)), None)
    if odd is not None:
        raise ModelError(f"the shape of {odd.target} at {source_of(odd) or 'an unknown line'} depends on values")
    if known is not None and functional(program.graph, known):
        program.graph.eliminate_dead_code()  # decomposing does the same: a slice taken for its shape cuts no axis
        return program
    program.graph_module.recompile()
    return decomposed(program, known) if known is not None else program.run_decompositions({})


def _read(
    program: ExportedProgram, train: bool, names: Mapping[str, str], reads: tuple[Read, ...] = (), seen: int = 0
) -> Trace:
    state: dict[str, str] = {}
    literals = _literals(program.graph)
    constants: dict[str, Tensor | None] = {}
    held: dict[str, Any] = {}
    inputs: list[str] = []
    for spec in program.graph_signature.input_specs:
        name, target = spec.arg.name, spec.target
        if spec.kind is InputKind.USER_INPUT:
            inputs.append(name)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and target in names:
            state[name] = names[str(target)]
        else:
            held[name] = value = program.constants.get(str(target), program.state_dict.get(str(target)))
            constants[name] = value if isinstance(value, Tensor) and name in literals else None
    mutated: dict[int, str | None] = {}
    results: list[int] = []
    for index, out in enumerate(program.graph_signature.output_specs):
        if out.kind is OutputKind.BUFFER_MUTATION or out.kind.name == "PARAMETER_MUTATION":
            mutated[index] = names.get(str(out.target))
        elif out.kind is OutputKind.USER_INPUT_MUTATION:
            mutated[index] = None
        else:
            results.append(index)
    mode = "train" if train else "eval"
    kept = tuple(results[: len(results) - seen])
    return Trace(mode, program.graph, state, constants, tuple(inputs), mutated, kept, reads, held)


def _literals(graph: fx.Graph) -> frozenset[str]:
    """Return the constants that are written in the source, as `torch.tensor([1.0, 2.0])`, which are copied at once."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder" and "lifted_tensor" in node.name]
    copies = ("aten.clone.default", "aten.lift_fresh_copy.default")
    return frozenset(node.name for node in placeholders if all(str(user.target) in copies for user in node.users))


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
    own = [frame for frame in frames if "/torch/" not in frame and "/symmetry/replay.py" not in frame] or frames
    if not own:
        return ""
    file, line = own[-1].split(", ")[:2]
    return f"{file.split('/')[-1].strip().removeprefix('File ').strip(chr(34))}:{line.removeprefix('line ')}"


def cause_of(node: fx.Node, reason: str) -> Cause:
    """Return the cause that names this node's operator, module and source line."""
    return Cause(reason, str(node.target), module_of(node)[0], source_of(node))
