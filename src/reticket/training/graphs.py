"""A training step as one CUDA graph: recorded once for each size of batch, then started by a single call.

A small network's step is hundreds of kernels of some microseconds, and starting them one by one costs the host more
than they cost the device. **Not yet measured on a GPU**: for that reason it is off unless asked for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

WARM_UPS = 3  # passes before recording, in which libraries choose their kernels and take their memory
Step = Callable[[Tensor, Tensor, Tensor], Tensor]
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True, eq=False)
class _Recorded:
    """One size of batch: where its inputs go, where its loss comes out, and what starts it."""

    x: Tensor
    y: Tensor
    loss: Tensor
    replay: Callable[[], None]


class GraphedStep:
    """A step that is recorded the first time a batch of its size comes, and replayed from then on.

    Args:
        step: does a whole step for (inputs, labels, learning rate as a tensor) and returns its loss; it may read
            nothing from the device, and every tensor it changes is in `state`.
        state: weights, velocities and buffers, which warming up must leave as they were.
        record: makes of a function one that does the same work again; `cuda_graph` on a GPU.
    """

    def __init__(self, step: Step, state: Iterable[Tensor], record: Recorder) -> None:
        self._step, self._state, self._record = step, tuple(state), record
        self._lr = torch.zeros((), dtype=self._state[0].dtype, device=self._state[0].device)
        self._recorded: dict[tuple[int, ...], _Recorded] = {}

    def __call__(self, x: Float[Tensor, "n ..."], y: Int64[Tensor, " n"], lr: float) -> Float[Tensor, ""]:
        """Do a step and return its loss, which later steps leave alone."""
        self._lr.fill_(lr)
        if x.shape not in self._recorded:
            self._recorded[x.shape] = self._recording(x, y)
        recorded = self._recorded[x.shape]
        recorded.x.copy_(x)
        recorded.y.copy_(y)
        recorded.replay()
        return recorded.loss.clone()

    def _recording(self, x: Tensor, y: Tensor) -> _Recorded:
        own_x, own_y = x.clone(memory_format=torch.preserve_format), y.clone()
        loss = torch.zeros((), dtype=self._lr.dtype, device=x.device)

        def work() -> None:
            loss.copy_(self._step(own_x, own_y, self._lr))

        before = [tensor.clone() for tensor in self._state]
        replay = self._record(work)
        for tensor, value in zip(self._state, before, strict=True):
            tensor.copy_(value)
        return _Recorded(own_x, own_y, loss, replay)


def cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """Warm up, record the work as a CUDA graph and return what replays it; torch's generators stay where they were."""
    rng, side = torch.cuda.get_rng_state(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_rng_state(rng)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
