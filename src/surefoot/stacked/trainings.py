"""What a fleet of networks changes from step to step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from surefoot.batches import Batches
    from surefoot.stacked.engines import Block
    from surefoot.stacked.optimizers import Step


@dataclass
class Part:
    """Neighbouring runs that are worked on together.

    Attributes:
        first, runs: Which runs: the number of the first, and how many.
        weights, buffers: Parameters and running statistics, as `surefoot.stacked.layout.Layout` has them; float32.
        memory: What the optimizer remembers, each like `weights`.
        steps: Steps made by each run, shape (runs,), float64.
        notes: What the optimizer remembers of each run as a whole, shape (notes, runs), float64.
        move: How the parameters moved in the last step, like `weights`; None where nobody asks.
    """

    first: int
    runs: int
    weights: Tensor
    buffers: Tensor
    memory: list[Tensor]
    steps: Tensor
    notes: Tensor
    move: Tensor | None = None
    desk: Any = field(default=None, repr=False)

    @property
    def where(self) -> slice:
        """Its runs among all."""
        return slice(self.first, self.first + self.runs)

    @property
    def remembered(self) -> list[Tensor]:
        """All that is like `weights` and zeros at first."""
        return self.memory if self.move is None else [*self.memory, self.move]


@dataclass(frozen=True)
class Desk:
    """What is needed while a part is worked on: views of it, and room for gradients."""

    block: Block
    low: Tensor | None
    low_gradient: Tensor | None
    step: Step


@dataclass
class Trainings:
    """Networks on their way: what `NetworkFleet.step` changes. It can be copied and pickled.

    Attributes:
        orders: Where each run's batches come from.
        ahead: Rows of the next batches, shape (batches, runs, examples).
        place: Which of them comes next.
        parts: The networks.
        rates: The rates of the step that is made, shape (runs,).
        rows: The rows of its batches, shape (runs, examples).
        losses: The losses before it, shape (runs,).
        healthy: Whether a run's losses were finite so far, shape (runs,).
        measured: Its gradient's `alignment` and `relative_step`, shape (2, runs).
    """

    orders: list[Batches]
    ahead: Tensor
    place: int
    parts: list[Part]
    rates: Tensor
    rows: Tensor
    losses: Tensor
    healthy: Tensor
    measured: Tensor
    replay: Any = field(default=0, repr=False)

    def __len__(self) -> int:
        return len(self.orders)

    def __getstate__(self) -> dict[str, Any]:
        # Views and recordings belong to these very tensors.
        parts = [Part(**{**part.__dict__, "desk": None}) for part in self.parts]
        return {**self.__dict__, "parts": parts, "replay": 0}
