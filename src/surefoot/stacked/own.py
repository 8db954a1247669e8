"""This library's own optimizers for many runs at once: those that find their rates in the step.

Nothing here looks at a number. Where the single optimizer passes over a gradient that is not finite, a run of a fleet has
diverged.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from surefoot.hypergradient_descent import HypergradientDescent
from surefoot.momo import MoMo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch.optim import Optimizer

    from surefoot.stacked.optimizers import Step


class Formula(NamedTuple):
    """How one of `torch.optim`'s or this library's optimizers makes a step.

    Attributes:
        go: Makes it, with the settings by name.
        memories: How many numbers it remembers for each parameter.
        known: The settings that `go` takes; the others must be left alone.
        notes: How many numbers it remembers for each run, given how many tensors a model has.
    """

    go: Callable[..., None]
    memories: int
    known: frozenset[str]
    notes: Callable[[int], int] = lambda _tensors: 0


def formula(optimizer: Optimizer) -> Formula | None:
    """That of one of this library's optimizers, which takes its settings along; None for any other."""
    settings = optimizer.defaults
    if isinstance(optimizer, HypergradientDescent):
        by_element = optimizer.per == "element"
        memories = {"nesterov": 2, "adam": 3, "adamw": 3}.get(optimizer.direction, 1) + by_element
        notes = {"tensor": lambda tensors: tensors, "element": lambda _: 0}.get(optimizer.per, lambda _: 1)
        return Formula(partial(_hypergradient, optimizer, settings), memories, frozenset(settings), notes)
    if isinstance(optimizer, MoMo):
        memories = 2 if optimizer.direction == "adam" else 1
        return Formula(partial(_momo, optimizer, settings), memories, frozenset(settings), lambda _: 3)
    return None


def _hypergradient(optimizer: HypergradientDescent, settings: dict[str, Any], step: Step, **_: Any) -> None:
    """Learn the scales, which are remembered less 1, and go with them in the direction, which is the first memory."""
    if settings["weight_decay"] and optimizer.direction != "adamw":
        step.gradient.add_(step.weights, alpha=settings["weight_decay"])
    last = step.memory[0]
    if optimizer.per == "element":
        _learn_elements(optimizer, step)
    else:
        sums = torch.stack([_by_tensor(step, *pair) for pair in ((step.gradient, last), (step.gradient,) * 2, (last,) * 2)])
        if optimizer.per != "tensor":
            sums = sums.sum(1, keepdim=True)
        _learn(optimizer, step, *sums)
    _turn(optimizer, settings, step)
    if optimizer.per == "element":
        torch.addcmul(last, last, step.memory[-1], out=step.gradient)
        step.move(step.gradient, step.rates)
    else:
        rates = (step.rates * (1.0 + step.notes)).float().expand(len(step.shapes), -1)
        for weights, way, rate in zip(step.by_run(step.weights), step.by_run(last), rates, strict=True):
            weights.addcmul_(way, rate.unsqueeze(1), value=-1.0)


def _learn(optimizer: HypergradientDescent, step: Step, slope: Tensor, gradient: Tensor, last: Tensor) -> None:
    scale = 1.0 + step.notes
    if optimizer.rule == "multiplicative":
        size = gradient.sqrt() * last.sqrt()
        cosine = torch.where(size > 0.0, slope / torch.where(size > 0.0, size, 1.0), 0.0).clamp(-1.0, 1.0)
        moved = scale * (1.0 + optimizer.hyper_rate * cosine)
    else:
        rates = step.rates.double()
        moved = torch.where(rates > 0.0, scale + optimizer.hyper_rate * slope / torch.where(rates > 0.0, rates, 1.0), scale)
    moved = torch.where(moved.isfinite(), moved.clamp(optimizer.min_scale, optimizer.max_scale), scale)
    step.notes.copy_(moved - 1.0)


def _learn_elements(optimizer: HypergradientDescent, step: Step) -> None:
    column = step.rates.unsqueeze(1)
    for gradient, last, offset in zip(*map(step.by_run, (step.gradient, step.memory[0], step.memory[-1])), strict=True):
        slope, scale = gradient * last, 1.0 + offset
        if optimizer.rule == "multiplicative":
            moved = scale * (1.0 + optimizer.hyper_rate * slope.sign())
        else:
            moved = scale + slope * (optimizer.hyper_rate / torch.where(column > 0.0, column, torch.inf))
        moved = torch.where(moved.isfinite(), moved.clamp(optimizer.min_scale, optimizer.max_scale), scale)
        offset.copy_(moved - 1.0)


def _turn(optimizer: HypergradientDescent, settings: dict[str, Any], step: Step) -> None:
    """Write the new direction into the first memory; the gradient may be overwritten."""
    last, gradient, momentum = step.memory[0], step.gradient, settings["momentum"]
    if optimizer.direction == "sgd":
        last.copy_(gradient)
    elif optimizer.direction == "momentum":
        torch.add(gradient, last, alpha=momentum, out=last)
    elif optimizer.direction == "nesterov":
        torch.add(gradient, step.memory[1], alpha=momentum, out=step.memory[1])
        torch.add(gradient, step.memory[1], alpha=momentum, out=last)
    else:
        first = settings["betas"][0]
        step.memory[1].lerp_(gradient, 1.0 - first)
        root = _spread(settings, step, step.memory[2], out=last)
        torch.div(step.memory[1], last, out=last)
        factor = (root / (1.0 - first**step.counts)).float().unsqueeze(1)
        for way in step.by_run(last):
            way.mul_(factor)
        if optimizer.direction == "adamw" and settings["weight_decay"]:
            last.add_(step.weights, alpha=settings["weight_decay"])


def _momo(optimizer: MoMo, settings: dict[str, Any], step: Step, **_: Any) -> None:
    """Make the single optimizer's step; noted are the mean loss, the mean product, and by how much the bound was raised."""
    is_adam = optimizer.direction == "adam"
    beta = settings["betas"][0] if is_adam else settings["momentum"]
    share = torch.full_like(step.counts, 1.0 - beta)
    if not is_adam:
        share = torch.where(step.counts > 1.0, share, 1.0)
    total = 1.0 - beta**step.counts if is_adam else torch.ones_like(step.counts)
    mean, product, above = step.notes
    mean.lerp_(step.losses.double(), share)
    product.mul_(beta).add_(share * _by_tensor(step, step.gradient, step.weights).sum(0))
    slopes, way = step.memory[0], step.memory[0]
    column = share.float().unsqueeze(1)
    for slope, gradient in zip(step.by_run(slopes), step.by_run(step.gradient), strict=True):
        slope.lerp_(gradient, column)
    root = torch.ones_like(step.counts)
    if is_adam:
        root = _spread(settings, step, step.memory[1], out=step.gradient)
        way = torch.div(slopes, step.gradient, out=step.gradient)

    rates = step.rates.double()
    shrink = 1.0 + rates * settings["weight_decay"]
    slope = _by_tensor(step, slopes, step.weights).sum(0)
    square = _by_tensor(step, slopes, way).sum(0) * root
    height = (mean - product + slope / shrink) / total
    bound = optimizer.least + above
    if optimizer.estimate:
        bound = torch.where(height < bound, (height / 2.0).clamp(min=optimizer.least), bound)
    drop = rates * square / shrink
    ceiling = 1.0 / total
    model = total * (height - bound).clamp(min=0.0) / torch.where(drop > 0.0, drop, 1.0)
    scale = torch.where(drop > 0.0, torch.minimum(ceiling, model), ceiling)
    if optimizer.estimate:
        bound = ((mean - product + slope - 0.5 * scale * rates * square) / total).clamp(min=optimizer.least)
        above.copy_(bound - optimizer.least)
    step.move(way, (scale * rates * root).float())
    if settings["weight_decay"]:
        for weights in step.by_run(step.weights):
            weights.div_(shrink.float().unsqueeze(1))


def _spread(settings: dict[str, Any], step: Step, square: Tensor, out: Tensor) -> Tensor:
    """Take the gradient into the mean square, and write its root with `eps` into `out`, which may be the gradient.

    Returns:
        By what a quotient with it is to be multiplied, per run: sqrt(v / (1 - b^t)) + eps with sqrt(1 - b^t) taken out.
    """
    second = settings["betas"][1]
    square.mul_(second).addcmul_(step.gradient, step.gradient, value=1.0 - second)
    torch.sqrt(square, out=out)
    root: Tensor = (1.0 - second**step.counts).sqrt()
    least = (settings["eps"] * root).float().unsqueeze(1)
    for piece in step.by_run(out):
        piece.add_(least)
    return root


def _by_tensor(step: Step, one: Tensor, other: Tensor) -> Tensor:
    """The inner product of two of the long vectors, for each tensor and run; shape (tensors, runs)."""
    pairs: Iterable[tuple[Tensor, Tensor]] = zip(step.by_run(one), step.by_run(other), strict=True)
    return torch.stack([torch.linalg.vecdot(piece, its).double() for piece, its in pairs])
