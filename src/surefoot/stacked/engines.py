"""How the gradients of many runs are found: by hand where every layer is known, traced from `torch.func` otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from surefoot.stacked.chain import Chain

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surefoot.stacked.layout import Block

Kind = Literal["stacked", "traced"]


class Engine(Protocol):
    """Losses and gradients of the mean cross-entropy, for many runs at once."""

    def learn(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """Write the gradients into the block, move its running statistics, and return the losses; shape (runs,)."""
        ...

    def judge(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """The losses of every run on the same examples; shape (runs,)."""
        ...


def engine(model: nn.Module, kind: Kind | None = None) -> Engine:
    """The engine for a model."""
    chain = None if kind == "traced" else Chain.of(model)
    if chain is None:
        raise ValueError("no chain")
    return chain
