"""How the gradients of many runs are found: by hand where every layer is known, traced from `torch.func` otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal["stacked", "traced"]


@dataclass(frozen=True)
class Block:
    """Runs that are worked on together: views by name, shape (runs, ...) each.

    Attributes:
        runs: How many they are.
        weights, gradients: Parameters, in the precision of the products, and where their gradients are to go.
        buffers: Running statistics, in float32.
        notes: What an engine finds once for these runs.
    """

    runs: int
    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Losses and gradients of the mean cross-entropy, for many runs at once."""

    def learn(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """Write the gradients into the block, move its running statistics, and return the losses; shape (runs,)."""
        ...

    def judge(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """The losses of every run on the same examples; shape (runs,)."""
        ...


def engine(model: nn.Module, kind: Kind | None = None) -> Engine:
    """The engine for a model: the stacked one where it knows all layers, unless `kind` asks for the other."""
    from surefoot.stacked.chain import Chain
    from surefoot.stacked.traced import Traced

    chain = None if kind == "traced" else Chain.of(model)
    if chain is None and kind == "stacked":
        raise ValueError("a stacked engine needs a chain of layers that it knows; leave the engine open, or take 'traced'")
    return chain or Traced(model)
