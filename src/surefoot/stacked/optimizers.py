"""PyTorch's optimizers for many runs at once, each with a rate and a count of steps of its own.

All parameters of a run stand in one row of a matrix (runs, parameters), so that a step is a handful of operations, however many
layers there are. The formulas, and the order of their operations, are those of `torch.optim`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn, optim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _sgd(given: Mapping[str, Any], weights: Tensor, gradient: Tensor, memory: list[Tensor], rates: Tensor, _: Tensor) -> None:
    if given["momentum"]:
        gradient = torch.add(gradient, memory[0], alpha=given["momentum"], out=memory[0])
    weights.addcmul_(gradient, rates, value=-1.0)


def _adam(given: Mapping[str, Any], weights: Tensor, gradient: Tensor, memory: list[Tensor], rates: Tensor, steps: Tensor) -> None:
    first, second = given["betas"]
    memory[0].lerp_(gradient, 1.0 - first)
    memory[1].mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
    length = (1.0 - first**steps).float()
    spread = memory[1].sqrt().div_((1.0 - second**steps).sqrt().float()).add_(given["eps"])
    weights.sub_(torch.div(memory[0], spread, out=spread).mul_(rates / length))


def _adamw(given: Mapping[str, Any], weights: Tensor, gradient: Tensor, memory: list[Tensor], rates: Tensor, steps: Tensor) -> None:
    weights.mul_(1.0 - rates * given["weight_decay"])
    _adam(given, weights, gradient, memory, rates, steps)


def _rmsprop(given: Mapping[str, Any], weights: Tensor, gradient: Tensor, memory: list[Tensor], rates: Tensor, _: Tensor) -> None:
    memory[0].mul_(given["alpha"]).addcmul_(gradient, gradient, value=1.0 - given["alpha"])
    spread = memory[0].sqrt().add_(given["eps"])
    weights.sub_(torch.div(gradient, spread, out=spread).mul_(rates))


def _adagrad(given: Mapping[str, Any], weights: Tensor, gradient: Tensor, memory: list[Tensor], rates: Tensor, _: Tensor) -> None:
    memory[0].addcmul_(gradient, gradient)
    spread = memory[0].sqrt().add_(given["eps"])
    weights.sub_(torch.div(gradient, spread, out=spread).mul_(rates))


_FORMULAS: dict[type[optim.Optimizer], tuple[Callable[..., None], int, frozenset[str]]] = {
    optim.SGD: (_sgd, 1, frozenset({"momentum"})),
    optim.Adam: (_adam, 2, frozenset({"betas", "eps"})),
    optim.AdamW: (_adamw, 2, frozenset({"betas", "eps", "weight_decay"})),
    optim.RMSprop: (_rmsprop, 1, frozenset({"alpha", "eps"})),
    optim.Adagrad: (_adagrad, 1, frozenset({"eps"})),
}
"""By optimizer: its formula, how many numbers it remembers per parameter, and the settings that the formula knows."""


class Stacked:
    """One of `torch.optim`'s optimizers, for a matrix of parameters with one run a row.

    Args:
        make: What makes the optimizer for one run, settings and all.

    Raises:
        ValueError: It is no optimizer that is known here, or has settings that are not.
    """

    def __init__(self, make: Callable[..., optim.Optimizer]) -> None:
        one = make([nn.Parameter(torch.zeros(1))], lr=0.0)
        formula = _FORMULAS.get(type(one))
        if formula is None:
            names = ", ".join(kind.__name__ for kind in _FORMULAS)
            raise ValueError(f"the optimizer of a fleet must be one of {names}, got {type(one).__name__}")
        self._formula, self.memories, known = formula
        self._settings = one.defaults
        usual = type(one)([nn.Parameter(torch.zeros(1))], lr=0.0).defaults
        for name, value in one.defaults.items():
            if name not in known | {"lr"} and value != usual[name]:
                raise ValueError(f"{type(one).__name__} of a fleet must leave {name} at {usual[name]}, got {value}")

    def step(self, weights: Tensor, gradient: Tensor, memory: list[Tensor], rates: Tensor, steps: Tensor) -> None:
        """One step in place.

        Args:
            weights, gradient: Shape (runs, parameters).
            memory: As many more of this shape as `memories` says, zeros before the first step.
            rates: Shape (runs, 1).
            steps: How many steps there will have been after this one; shape (runs, 1), float64.
        """
        self._formula(self._settings, weights, gradient, memory, rates, steps)
