"""Where the parameters of a model stand in one long row, so that many models are a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Layout:
    """Names and shapes, in the order in which they stand in a row.

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
        """How many numbers there are in a row."""
        return sum(map(prod, self.shapes.values()))

    def row(self, named: Iterable[tuple[str, Tensor]]) -> Tensor:
        """All of it, one behind another, in float32."""
        tensors = [tensor.detach().float().flatten() for name, tensor in named if name in self.shapes]
        return torch.cat(tensors) if tensors else torch.empty(0)

    def views(self, matrix: Tensor) -> dict[str, Tensor]:
        """By name, what stands in a matrix of rows, shape (runs, ...); changing one changes the other."""
        found, start = {}, 0
        for name, shape in self.shapes.items():
            found[name] = matrix[:, start : start + prod(shape)].unflatten(1, shape or (1,))
            found[name] = found[name] if shape else found[name].squeeze(1)
            start += prod(shape)
        return found


@dataclass(frozen=True)
class Block:
    """Some neighbouring runs: views by name, shape (runs, ...) each, as an engine takes them.

    Attributes:
        runs: How many they are.
        weights, gradients: Parameters, in the precision of the products, and where their gradients are to go.
        buffers: Running statistics, in float32.
    """

    runs: int
    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
