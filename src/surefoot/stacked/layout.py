"""Where the parameters of many models stand in one long vector."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Layout:
    """Names and shapes of what a model has. Many models stand parameter by parameter, and in each run by run.

    So the parameters of one layer are one contiguous array, which batched products can write into, and all of them together
    are another, on which an optimizer spends few operations.

    Attributes:
        shapes: By name, the shape of each parameter (or of each buffer that holds fractions).
    """

    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, named: Iterable[tuple[str, Tensor]]) -> Layout:
        """That of a model's `named_parameters()` or `named_buffers()`; counts are left out."""
        return cls({name: tuple(tensor.shape) for name, tensor in named if tensor.is_floating_point()})

    @property
    def size(self) -> int:
        """How many numbers one run has."""
        return sum(map(prod, self.shapes.values()))

    def pick(self, named: Iterable[tuple[str, Tensor]]) -> list[Tensor]:
        """One model's tensors in the order of the layout."""
        return [tensor.detach() for name, tensor in named if name in self.shapes]

    def stack(self, models: Sequence[list[Tensor]], device: str) -> Tensor:
        """The vector of many models' picks, in float32."""
        columns = [torch.stack(column).flatten().float() for column in zip(*models, strict=True)]
        return torch.cat(columns).to(device) if columns else torch.empty(0, device=device)

    def views(self, vector: Tensor, runs: int) -> dict[str, Tensor]:
        """By name, what stands in a vector, shape (runs, ...); changing one changes the other."""
        pieces = torch.split(vector, [runs * prod(shape) for shape in self.shapes.values()])
        return {name: piece.view(runs, *shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}
