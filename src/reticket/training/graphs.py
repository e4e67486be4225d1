"""Training steps as CUDA graphs: recorded once for each size of batch, then each started by a single call.

A small network's step is hundreds of kernels of some microseconds, and starting them one by one costs the host more
than they cost the device. Everything a step needs lies on the device: the data, what the epoch draws, its learning
rates and the number of the step, which the step itself counts on. So nothing passes between host and device in between.
"""

import gc
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reticket.errors import TrainingError
from reticket.rng import global_generators
from reticket.training.batches import Batches, Draws, staged

WARM_UPS = 3  # passes before recording, in which libraries choose their kernels and take their memory
Procedure = Callable[[], None]
StepFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
Recorder = Callable[[Procedure, Procedure], Procedure]


class RecordingError(TrainingError):
    """A step cannot be recorded."""


class RecordedSteps:
    """The steps of an epoch, each recorded the first time a batch of its size comes and replayed from then on.

    Args:
        batches: of data in memory.
        step: does a whole step for (inputs, labels, learning rate as a tensor) and returns its loss; it may read
            nothing from the device, and every tensor it changes is in `state`.
        state: weights, velocities and buffers, which warming up must leave as they were.
        record: makes of a work, and of what undoes it, a function that does the work again; `cuda_graph` on a GPU.
    """

    def __init__(self, batches: Batches, step: StepFunction, state: Iterable[Tensor], record: Recorder) -> None:
        self._batches, self._step, self._record = batches, step, record
        device, dtype = batches.device, batches.dtype
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._offsets = torch.arange(batches.batch_size, device=device)
        self._draws: Draws = batches.draws(0).to(device)
        self._rates, self._losses = (torch.zeros(batches.steps, dtype=dtype, device=device) for _ in range(2))
        self._loss_of = self._losses.unbind()
        self._state = (*state, self._number, self._losses)
        self._replays: dict[int, Procedure] = {}

    def begin(self, epoch: int, first: int, rates: Sequence[float]) -> None:
        """Bring onto the device what an epoch needs; the next step is its `first`.

        Args:
            epoch: its number.
            first: steps of it that are done already.
            rates: the learning rate of each of its steps.
        """
        self._draws.copy_(self._batches.draws(epoch))
        host = torch.tensor(rates, dtype=self._rates.dtype, device="cpu")
        self._rates.copy_(staged(host, self._rates.device), non_blocking=True)
        self._number.fill_(first)

    def __call__(self, size: int, number: int) -> Float[Tensor, ""]:
        """Do the next step and return its loss, which stays until the next epoch begins.

        Args:
            size: inputs in its batch.
            number: which step of the epoch it is; the device counts for itself.

        Raises:
            RecordingError: when it cannot be recorded; everything is then as it was before the call.
        """
        if size not in self._replays:
            self._replays[size] = self._recording(size)
        self._replays[size]()
        return self._loss_of[number]

    def close(self) -> None:
        """Let go of the recordings, while no other thread records."""
        with global_generators():
            self._replays.clear()

    def _recording(self, size: int) -> Procedure:
        before = [tensor.clone() for tensor in self._state]

        @torch.no_grad()
        def undo() -> None:
            for tensor, value in zip(self._state, before, strict=True):
                tensor.copy_(value)

        try:
            return self._record(lambda: self._work(size), undo)
        except RuntimeError as error:
            undo()
            reason = str(error).strip().splitlines()[0][:200]
            raise RecordingError(f"a training step cannot be recorded ({reason}); train with graphs=False") from error

    def _work(self, size: int) -> None:
        place = self._number.view(1)
        x, y = self._batches.taken(self._draws.at(place * self._batches.batch_size + self._offsets[:size]))
        loss = self._step(x, y, self._rates.index_select(0, place).view(()))
        self._losses.index_copy_(0, place, loss.view(1))
        self._number.add_(1)


class _Recordings:
    """The last recordings of a thread; they go while no other thread records, since torch keeps a list of them all."""

    def __init__(self) -> None:
        self.graphs: list[torch.cuda.CUDAGraph] = []

    def __del__(self) -> None:
        with suppress(Exception), global_generators():
            self.graphs.clear()


class _Kept(threading.local):
    """What a thread keeps of its last recordings: while one of them lives, so does the memory that they share."""

    def __init__(self) -> None:
        self.pool: Any = None
        self.last = _Recordings()
        self._side: torch.cuda.Stream | None = None

    def side(self) -> torch.cuda.Stream:
        """Return this thread's stream for recording; always the same, since memory is handed on within a stream."""
        self._side = self._side or torch.cuda.Stream()
        return self._side


_kept = _Kept()
KEPT_GRAPHS = 2  # the two sizes of batch of a run
READING = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
aten = torch.ops.aten


class _NoReading(TorchDispatchMode):
    """Refuses what reads from the device: torch up to 2.11 does not recover from a recording that fails by it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        reads = any(tag in func.tags for tag in READING)
        if func is aten.index.Tensor:  # of which only a mask's places must be counted
            reads = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if func is aten._to_copy.default:
            reads = args[0].is_cuda and named.get("device") is not None and torch.device(named["device"]).type == "cpu"
        if reads:
            raise RuntimeError(f"{func} reads from the device")
        return func(*args, **named)


def cuda_graph(work: Procedure, undo: Procedure) -> Procedure:
    """Warm up, record the work as a CUDA graph and return what replays it.

    Threads may record side by side with others that compute, each on a stream of its own; recording itself is done by
    one at a time. The recordings of a thread share their memory: they are replayed one after another, never at once.
    """
    with global_generators([torch.cuda.current_device()]):
        outer = torch.cuda.current_stream()
        stream = _kept.side() if outer == torch.cuda.default_stream() else outer  # the default one cannot be recorded
        stream.wait_stream(outer)
        try:
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS - 1):
                    work()
                    undo()
                with _NoReading():
                    work()
                undo()
                try:
                    graph = _captured(work, stream)
                except RuntimeError:  # perhaps what another thread did just then, such as loading a kernel
                    graph = _captured(work, stream)
        finally:
            outer.wait_stream(stream)
    return graph.replay


def _captured(work: Procedure, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """Return the recording; `torch.cuda.graph` would wait for the whole device, that is for every other thread."""
    if _kept.pool is None:
        _kept.pool = torch.cuda.graph_pool_handle()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    collecting = gc.isenabled()
    gc.disable()  # what is collected may call CUDA, which this thread must not while it records
    try:
        graph.capture_begin(pool=_kept.pool, capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            with suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
    except BaseException:
        _mend()
        raise
    finally:
        if collecting:
            gc.enable()
    _kept.last.graphs = [*_kept.last.graphs, graph][-KEPT_GRAPHS:]
    return graph


def _mend() -> None:
    """End what torch up to 2.11 leaves open after a recording that failed: that of the allocator and the generator."""
    device = torch.cuda.current_device()
    names = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")  # the second up to torch 2.7
    end = next((getattr(torch._C, name) for name in names if hasattr(torch._C, name)), lambda *_: None)
    with suppress(RuntimeError):
        end(device, _kept.pool)
    _kept.pool, _kept.last.graphs = None, []
    whole = torch.cuda.CUDAGraph()
    whole.capture_begin(pool=torch.cuda.graph_pool_handle(), capture_error_mode="thread_local")
    torch.zeros((), device=device)
    whole.capture_end()
