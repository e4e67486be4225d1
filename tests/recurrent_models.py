"""Recurrent networks for the rules of LSTM, GRU and RNN: every option that changes which units move together."""

import torch
from torch import Tensor, nn

from tests.models_for_symmetry import Case, orders


def sequence() -> Tensor:
    """Three sequences of four steps with five features."""
    return torch.linspace(-2, 2, 60).reshape(3, 4, 5).sin()


class Encoder(nn.Module):
    """A free linear layer, a recurrent layer, and a classifier of its output at the last step."""

    def __init__(self, recurrent: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.embed, self.recurrent, self.fc = nn.Linear(5, 7), recurrent, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.recurrent.batch_first:
            return self.fc(self.recurrent(self.embed(x).transpose(0, 1))[0][-1])
        return self.fc(self.recurrent(self.embed(x))[0][:, -1])


class FinalState(nn.Module):
    """The hidden state of the last step as the classifier's input, the memory beside it if there is one."""

    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent, self.fc = recurrent, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = self.recurrent(x)[1]
        return self.fc(state[0][-1] + state[1][-1] if isinstance(state, tuple) else state[-1])


class AllFinalStates(nn.Module):
    """The last hidden states of all layers and directions, added up or joined."""

    def __init__(self, *, joined: bool) -> None:
        super().__init__()
        self.recurrent = nn.GRU(5, 6, 2, batch_first=True, bidirectional=True)
        self.fc, self.joined = nn.Linear(24 if joined else 6, 3), joined

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.recurrent(x)[1]
        return self.fc(hidden.transpose(0, 1).flatten(1) if self.joined else hidden.sum(0))


class LearnedStart(nn.Module):
    """The initial hidden state and memory are parameters, the same for every sequence."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.start, self.memory = nn.Parameter(torch.randn(layers, 1, 6)), nn.Parameter(torch.randn(layers, 1, 6))
        self.recurrent, self.fc = nn.LSTM(5, 6, layers, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        state = self.start.expand(-1, n, -1).contiguous(), self.memory.expand(-1, n, -1).contiguous()
        return self.fc(self.recurrent(x, state)[0][:, -1])


class Latents(nn.Module):
    """Learned mixtures of the sequences, or of the steps, are what the recurrent layer runs over."""

    def __init__(self, *, steps: bool) -> None:
        super().__init__()
        self.mix, self.recurrent = nn.Linear(4 if steps else 3, 4), nn.GRU(5, 6, batch_first=True)
        self.start, self.fc, self.steps = nn.Parameter(torch.randn(1, 4, 6)), nn.Linear(6, 3), steps

    def forward(self, x: Tensor) -> Tensor:
        if self.steps:
            return self.fc(self.recurrent(self.mix(x.transpose(1, 2)).transpose(1, 2))[0].sum(1))
        mixed = self.mix(x.permute(1, 2, 0)).permute(2, 0, 1)
        return self.fc(self.recurrent(mixed, self.start)[0]).sum(0)


class Cells(nn.Module):
    """Two cells unrolled by hand that begin with one tensor of zeros."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.first, self.second, self.fc = kind(5, 6), kind(6, 6), nn.Linear(6, 3)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(x.shape[0], 6)
        lstm = isinstance(self.first, nn.LSTMCell)
        low = high = (zeros, zeros) if lstm else zeros
        for step in x.unbind(1):
            low = self.first(step, low)
            high = self.second(low[0] if lstm else low, high)
        return self.fc(high[0] * high[1] if lstm else high)


class RollingCell(nn.Module):
    """A cell whose sequences are learned mixtures, so that they may move, with a learned state for each."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.start = nn.Linear(3, 4), nn.Parameter(torch.randn(4, 6))
        self.cell, self.fc = nn.GRUCell(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.cell(self.mix(x[:, 0].T).T, self.start)).sum(0)


class OwnCell(nn.Module):
    """A GRU written by hand from linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.back, self.fc = nn.Linear(5, 18), nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 6)
        for step in x.unbind(1):
            (r, z, n), (hr, hz, hn) = self.inward(step).chunk(3, -1), self.back(h).chunk(3, -1)
            keep = torch.sigmoid(z + hz)
            h = (1 - keep) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + keep * h
        return self.fc(h)


# hidden units h of every layer and direction move on their own, as do the 7 units that the first layer reads
RECURRENT = {
    "lstm": Case(lambda: Encoder(nn.LSTM(7, 6, batch_first=True), 6), sequence, orders(7, 6)),
    "gru": Case(lambda: Encoder(nn.GRU(7, 6, batch_first=True), 6), sequence, orders(7, 6)),
    "rnn-tanh": Case(lambda: Encoder(nn.RNN(7, 6), 6), sequence, orders(7, 6)),
    "rnn-relu": Case(lambda: Encoder(nn.RNN(7, 6, nonlinearity="relu"), 6), sequence, orders(7, 6)),
    "time-first": Case(lambda: Encoder(nn.LSTM(7, 6), 6), sequence, orders(7, 6)),
    "no-bias": Case(lambda: Encoder(nn.GRU(7, 6, bias=False), 6), sequence, orders(7, 6)),
    "two-layers-dropout": Case(lambda: Encoder(nn.LSTM(7, 6, 2, dropout=0.5), 6), sequence, orders(7, 6, 6)),
    "both-directions": Case(
        lambda: Encoder(nn.GRU(7, 6, 2, bidirectional=True, batch_first=True), 12), sequence, orders(7, 6, 6, 6, 6)
    ),
    # the projection has 4 units of its own beside the 6 of the memory, in each layer and direction
    "projection": Case(
        lambda: Encoder(nn.LSTM(7, 6, 2, proj_size=4, bidirectional=True), 8),
        sequence,
        orders(7, 6, 6, 6, 6, 4, 4, 4, 4),
    ),
    "final-hidden-state": Case(lambda: FinalState(nn.LSTM(5, 6, batch_first=True)), sequence, orders(6)),
    "final-state-gru": Case(lambda: FinalState(nn.GRU(5, 6, batch_first=True)), sequence, orders(6)),
    # h_n[-1] is the last layer's; the units of the first layer stay free of it
    "final-hidden-state-of-two": Case(lambda: FinalState(nn.LSTM(5, 6, 2, batch_first=True)), sequence, orders(6, 6)),
    "joined-final-states": Case(lambda: AllFinalStates(joined=True), sequence, orders(6, 6, 6, 6)),
    # added up, the units of all four must move alike
    "added-final-states": Case(lambda: AllFinalStates(joined=False), sequence, orders(6)),
    "learned-start": Case(lambda: LearnedStart(1), sequence, orders(6)),
    # the two layers' units stand on one axis of the parameter, so that they move alike (more would be possible)
    "learned-start-of-two": Case(lambda: LearnedStart(2), sequence, orders(6)),
    # four learned mixtures of the sequences may change places, four mixtures of the steps may not
    "latent-sequences": Case(lambda: Latents(steps=False), sequence, orders(4, 6)),
    "latent-steps": Case(lambda: Latents(steps=True), sequence, orders(6)),
    "lstm-cells-one-zeros": Case(lambda: Cells(nn.LSTMCell), sequence, orders(6, 6)),
    "gru-cells-one-zeros": Case(lambda: Cells(nn.GRUCell), sequence, orders(6, 6)),
    "rnn-cells-one-zeros": Case(lambda: Cells(nn.RNNCell), sequence, orders(6, 6)),
    "cell-of-latents": Case(RollingCell, sequence, orders(4, 6)),
    "gru-by-hand": Case(OwnCell, sequence, orders(6)),
}
