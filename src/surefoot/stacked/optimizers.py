"""PyTorch's optimizers for many runs at once, each with a rate and a count of steps of its own.

What is the same for all runs is done on one long vector of all parameters; only what depends on a run's rate or count goes
parameter by parameter. The formulas are those of `torch.optim`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn, optim

from surefoot.hypergradient_descent import HypergradientDescent
from surefoot.momo import MoMo
from surefoot.stacked.own import Formula, formula

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Step:
    """What an optimizer step is made of: tensors that stay the same objects from step to step.

    Attributes:
        weights, gradient: All parameters and their gradients, shape (numbers,); the gradient may be overwritten.
        memory: What is remembered, each of the same shape, zeros before the first step.
        rates: One per run, shape (runs,), float32.
        counts: How many steps each run will have made after this one, shape (runs,), float64.
        shapes: The shapes (runs, ...) of the parameters that stand in the vectors, one after another.
        notes: What is remembered of each run as a whole, zeros before the first step, shape (notes, runs), float64.
        losses: The losses that the gradients are those of, shape (runs,).
    """

    weights: Tensor
    gradient: Tensor
    memory: list[Tensor]
    rates: Tensor
    counts: Tensor
    shapes: list[tuple[int, ...]]
    notes: Tensor = field(default_factory=partial(torch.zeros, 0, 0))
    losses: Tensor = field(default_factory=partial(torch.zeros, 0))
    _pieces: dict[int, list[Tensor]] = field(default_factory=dict, repr=False)

    def by_run(self, vector: Tensor) -> list[Tensor]:
        """One of the long vectors parameter by parameter, shape (runs, numbers) each."""
        if id(vector) not in self._pieces:
            assert any(vector is own for own in (self.weights, self.gradient, *self.memory))
            sizes = [prod(shape) for shape in self.shapes]
            self._pieces[id(vector)] = [piece.view(len(self.rates), -1) for piece in torch.split(vector, sizes)]
        return self._pieces[id(vector)]

    def move(self, direction: Tensor, rates: Tensor) -> None:
        """Go against a direction, which is one of the long vectors, each run by its own rate."""
        column = rates.unsqueeze(1)
        for weights, way in zip(self.by_run(self.weights), self.by_run(direction), strict=True):
            weights.addcmul_(way, column, value=-1.0)


def _sgd(step: Step, momentum: float, **_: Any) -> None:
    direction = step.gradient
    if momentum:
        direction = torch.add(step.gradient, step.memory[0], alpha=momentum, out=step.memory[0])
    step.move(direction, step.rates)


def _adam(step: Step, betas: tuple[float, float], eps: float, **_: Any) -> None:
    mean, square = step.memory
    mean.lerp_(step.gradient, 1.0 - betas[0])
    square.mul_(betas[1]).addcmul_(step.gradient, step.gradient, value=1.0 - betas[1])
    spread = torch.sqrt(square, out=step.gradient)
    # Both corrections belong to the runs: m / (1 - a^t) / (sqrt(v / (1 - b^t)) + eps), with sqrt(1 - b^t) taken out.
    root = (1.0 - betas[1] ** step.counts).sqrt()
    least = (eps * root).float().unsqueeze(1)
    for piece in step.by_run(spread):
        piece.add_(least)
    step.move(torch.div(mean, spread, out=step.gradient), (step.rates * root / (1.0 - betas[0] ** step.counts)).float())


def _adamw(step: Step, weight_decay: float, **settings: Any) -> None:
    left = (1.0 - step.rates * weight_decay).unsqueeze(1)
    for weights in step.by_run(step.weights):
        weights.mul_(left)
    _adam(step, **settings)


def _rmsprop(step: Step, alpha: float, eps: float, **_: Any) -> None:
    step.memory[0].mul_(alpha).addcmul_(step.gradient, step.gradient, value=1.0 - alpha)
    spread = step.memory[0].sqrt().add_(eps)
    step.move(torch.div(step.gradient, spread, out=step.gradient), step.rates)


def _adagrad(step: Step, eps: float, **_: Any) -> None:
    step.memory[0].addcmul_(step.gradient, step.gradient)
    spread = step.memory[0].sqrt().add_(eps)
    step.move(torch.div(step.gradient, spread, out=step.gradient), step.rates)


_FORMULAS: dict[type[optim.Optimizer], Formula] = {
    optim.SGD: Formula(_sgd, 1, frozenset({"momentum"})),
    optim.Adam: Formula(_adam, 2, frozenset({"betas", "eps"})),
    optim.AdamW: Formula(_adamw, 2, frozenset({"betas", "eps", "weight_decay"})),
    optim.RMSprop: Formula(_rmsprop, 1, frozenset({"alpha", "eps"})),
    optim.Adagrad: Formula(_adagrad, 1, frozenset({"eps"})),
}


class Stacked:
    """One of `torch.optim`'s optimizers, or of this library's own, for the parameters of many runs.

    Args:
        make: What makes the optimizer for one run, settings and all.

    Raises:
        ValueError: It is no optimizer that is known here, or has settings that are not.
    """

    def __init__(self, make: Callable[..., optim.Optimizer]) -> None:
        one = _one(make)
        chosen = _known(one)
        if chosen is None:
            names = ", ".join(kind.__name__ for kind in (*_FORMULAS, HypergradientDescent, MoMo))
            raise ValueError(f"the optimizer of a fleet must be one of {names}, got {type(one).__name__}")
        self._formula, self.memories, known, self.notes = chosen
        plain: Callable[..., optim.Optimizer] = type(one)
        usual: Mapping[str, Any] = _one(plain).defaults
        for name, value in one.defaults.items():
            if name not in known | {"lr"} and value != usual[name]:
                raise ValueError(f"{type(one).__name__} of a fleet must leave {name} at {usual[name]}, got {value}")
        self._settings = {name: one.defaults[name] for name in known}

    def step(self, step: Step) -> None:
        """One step in place."""
        self._formula(step, **self._settings)


def is_known(make: Callable[..., optim.Optimizer]) -> bool:
    """Whether a fleet knows the formula of an optimizer, given what makes it.

    >>> is_known(optim.AdamW), is_known(optim.Rprop)
    (True, False)
    """
    return _known(_one(make)) is not None


def _one(make: Callable[..., optim.Optimizer]) -> optim.Optimizer:
    return make([nn.Parameter(torch.zeros(1))], lr=1.0)  # Not 0: some optimizers refuse to be made with it.


def _known(optimizer: optim.Optimizer) -> Formula | None:
    return formula(optimizer) or _FORMULAS.get(type(optimizer))
