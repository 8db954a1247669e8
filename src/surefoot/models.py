"""Small models of the usual kinds, each a function or a class of a few numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from collections.abc import Sequence


def perceptron(
    inputs: int, hidden: Sequence[int], classes: int, *, batch_norm: bool = False, gain: float = 1.0
) -> nn.Sequential:
    """Linear layers with ReLU in between.

    >>> [tuple(parameter.shape) for parameter in perceptron(13, [8], 3).parameters()]
    [(8, 13), (8,), (3, 8), (3,)]

    Args:
        inputs: Features, 1 or more.
        hidden: Widths of the hidden layers.
        classes: Scores, 1 or more.
        batch_norm: Whether each hidden layer is normalised over the batch.
        gain: What PyTorch's initial weights of the linear layers are multiplied by, above 0.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([inputs, *hidden]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if batch_norm else []), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear([inputs, *hidden][-1], classes))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(gain)
    return model


def convolutions(
    side: int, channels: tuple[int, int], classes: int, *, kernel: int = 3, batch_norm: bool = False
) -> nn.Sequential:
    """Two convolutions over grey pictures, each halving the picture, then a linear layer.

    Args:
        side: Pixels in a row and in a column, a multiple of 4; pictures come as rows of side x side.
        channels: Filters of the one and of the other.
        classes: Scores, 1 or more.
        kernel: Pixels of a filter in a row and in a column, odd.
        batch_norm: Whether their results are normalised over the batch.
    """
    first, second = channels
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, first, kernel, padding=kernel // 2, stride=2),
        *([nn.BatchNorm2d(first)] if batch_norm else []),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1, stride=2),
        *([nn.BatchNorm2d(second)] if batch_norm else []),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (side // 4) ** 2, classes),
    )


class Residual(nn.Module):
    """A stream to which blocks add what they make of a normalised copy of it.

    Args:
        inputs: Features, 1 or more.
        width: Of the stream, 1 or more.
        blocks: How many.
        classes: Scores, 1 or more.
    """

    def __init__(self, inputs: int, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(blocks)
        )
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Scores, shape (examples, classes), of rows of features."""
        stream: Tensor = self.into(x)
        for block in self.blocks:
            stream = stream + block(stream)
        scores: Tensor = self.scores(stream)
        return scores


class Rows(nn.Module):
    """A long short-term memory that reads a picture row by row and judges by its last state.

    Args:
        side: Pixels in a row and in a column; pictures come as rows of side x side.
        width: Of the memory, 1 or more.
        classes: Scores, 1 or more.
    """

    def __init__(self, side: int, width: int, classes: int) -> None:
        super().__init__()
        self.side = side
        self.memory = nn.LSTM(side, width, batch_first=True)
        self.scores = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, shape (examples, classes), of pictures."""
        read, _ = self.memory(x.reshape(-1, self.side, self.side))
        scores: Tensor = self.scores(read[:, -1])
        return scores


class Gated(nn.Module):
    """A gated recurrent unit that reads a picture row by row and judges by its last state.

    Its formulas are PyTorch's, written out: `nn.GRU` has no form for many runs at once.

    Args:
        side: Pixels in a row and in a column; pictures come as rows of side x side.
        width: Of the memory, 1 or more.
        classes: Scores, 1 or more.

    Reference: Cho et al., 2014, arXiv:1406.1078.
    """

    def __init__(self, side: int, width: int, classes: int) -> None:
        super().__init__()
        self.side, self.width = side, width
        self.into, self.again = nn.Linear(side, 3 * width), nn.Linear(width, 3 * width)
        self.scores = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, shape (examples, classes), of pictures."""
        state = x.new_zeros(len(x), self.width)
        for row in self.into(x.reshape(-1, self.side, self.side)).unbind(1):
            (reset, update, new), (again_reset, again_update, again_new) = row.chunk(3, -1), self.again(state).chunk(3, -1)
            keep = (update + again_update).sigmoid()
            candidate = (new + (reset + again_reset).sigmoid() * again_new).tanh()
            state = candidate + keep * (state - candidate)
        scores: Tensor = self.scores(state)
        return scores


class _Block(nn.Module):
    """Attention to what came before, then a perceptron; each reads a normalised copy and adds to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.query_key_value(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.movedim(-3, 0).transpose(-3, -2)
        attended = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(-3, -2).flatten(-2))
        y: Tensor = x + self.perceptron(self.before_perceptron(x))
        return y


class Transformer(nn.Module):
    """Codes of characters to scores of the next ones, with learned positions.

    Args:
        vocabulary: How many codes there are.
        context: Characters in a row.
        width: Of the stream, a multiple of `heads`.
        heads: Of the attention, 1 or more.
        layers: Blocks, 1 or more.
    """

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(layers)))
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))

    def forward(self, codes: Tensor) -> Tensor:
        """Scores, shape (examples, context, vocabulary), of rows of codes."""
        scores: Tensor = self.scores(self.blocks(self.characters(codes.long()) + self.positions))
        return scores
