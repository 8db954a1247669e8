"""A learning rate to begin with, found by a range test that noise cannot lead astray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surefoot import checks
from surefoot.greedy import LEAST_WINDOW
from surefoot.put_back import every_parameter, put_back, same_randomness
from surefoot.range_seen import RangeSeen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch.optim import Optimizer

    from surefoot.drawing import Drawing

    LossOf = Callable[[nn.Module, Any], Tensor]

LEAST_STEPS = 30
_SHARE = 6  # A window is a sixth of the steps.
_BELOW = 4.0
"""How far below the rate of the lowest loss the suggestion lies; chosen on the development tasks of the comparison."""


@dataclass(frozen=True)
class RateFound:
    """What a range test found.

    Attributes:
        rate: The rate to begin with, of the group whose rate is the highest; None if no fall of the loss was to be told from
            noise.
        groups: That of every parameter group, in the ratios that they had; empty without a rate.
        rates: The rates that were tried, ascending.
        losses: The loss of the batch before the step at each of them.
        smoothed: What the mean loss over many batches would have been there, estimated.
        falls: The rate at which the loss is first seen falling; None if it is not.
        lowest: The rate at which `smoothed` is lowest; None likewise.
        explodes: The rate at which the loss rises above where it began, or is no number; None if it does not.
        reason: All that in words.
    """

    rate: float | None
    groups: tuple[float, ...]
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    falls: float | None
    lowest: float | None
    explodes: float | None
    reason: str

    def use(self, optimizer: Optimizer) -> None:
        """Set the rates of an optimizer's groups to what was found; rates that are tensors are filled in place.

        Raises:
            ValueError: No rate was found, or there are other groups than then.
        """
        if self.rate is None:
            raise ValueError(f"there is no rate to use: {self.reason}")
        if len(self.groups) != len(optimizer.param_groups):
            raise ValueError(f"the optimizer must have {len(self.groups)} groups, got {len(optimizer.param_groups)}")
        for group, rate in zip(optimizer.param_groups, self.groups, strict=True):
            _set(group, rate)

    def plot(self) -> Drawing:
        """The losses against the rate, with what was found in them.

        Raises:
            ImportError: vl-convert-python is not installed, which is asked for when the drawing is shown or saved.
        """
        from surefoot.range_plot import of_range

        return of_range(self)


def find_rate(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Any],
    loss_of: Callable[[nn.Module, Any], Tensor],
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    backward: Callable[[Tensor], object] | None = None,
) -> RateFound:
    """Try rates from low to high, a step at each, and suggest one; model and optimizer are as they were before.

    The loss of every batch is measured twice, with the weights of now and with those before the test: their difference has
    little of the noise of the batch, so that a fall is seen where the losses alone show none. It takes one forward pass more
    per step, three copies of the weights and one of the optimizer's state. Differences are averaged over a sixth of the steps.
    The suggestion is a quarter of the rate at which they are lowest, if a straight line through some window of them falls by
    more than three of its standard errors.

    >>> _ = torch.manual_seed(0)
    >>> model, target = nn.Linear(8, 1), torch.randn(8, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> def loss_of(model, x):
    ...     return (model(x) - x @ target).square().mean()
    >>> found = find_rate(model, optimizer, torch.randn(20, 4, 8), loss_of)
    >>> found.reason
    'the loss falls from 3.7e-06 on, is lowest at 0.17 and explodes at 2: a quarter of 0.17'
    >>> found.use(optimizer)

    Args:
        model: The model, in the mode that it is trained in; a model in the mode `eval` is put into `train` for the test.
        optimizer: Its optimizer, before a scheduler is made for it. With several groups, the ratios of their rates are kept.
        batches: Batches for `loss_of`, such as a `DataLoader`; begun anew when there are fewer than steps.
        loss_of: Returns the loss of a batch, a tensor with one element; called with the model and a batch.
        low: The first rate, above 0; of the group whose rate is the highest.
        high: The last rate, above `low`. The test ends before where the loss explodes.
        steps: How many rates are tried, 30 or more.
        backward: Computes the gradients from the loss, such as `accelerator.backward`; the loss's own `backward` if None.

    Raises:
        TypeError: The model or the optimizer is not one, a number is none, or `loss_of` does not return a tensor.
        ValueError: A number is outside its range, there are no batches, the optimizer has a scheduler already or only rates of
            0, or the loss is not finite even before the first step.

    Reference: for the test, Smith, 2015, arXiv:1506.01186, section 3.3; pairs of measurements and evidence are our own.
    """
    _check(model, optimizer, low, high, steps)
    shares = _shares(optimizer)
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    losses: list[float] = []
    seen = RangeSeen(max(LEAST_WINDOW, round(steps / _SHARE)))
    with put_back(model, optimizer):
        if not model.training:
            model.train()
        start = _Start(model, optimizer)
        for rate, batch in zip(rates, _endless(batches), strict=False):
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                _set(group, rate * share)
            before = start.loss(loss_of, batch)
            losses.append(start.step(loss_of, batch, backward))
            if seen.add(losses[-1], before):
                break
    if not losses:
        raise ValueError("batches must hold one batch or more, got none")
    return _told(rates, losses, seen, shares)


class _Start:
    """The model as it was before the test, to measure a batch's loss there."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        self._parameters = every_parameter(model, optimizer)
        self._tensors = [*self._parameters, *model.buffers()]
        self._copies = [tensor.detach().clone() for tensor in self._tensors]

    @torch.no_grad()
    def loss(self, loss_of: LossOf, batch: Any) -> float:
        """The batch's loss at the start, with the random numbers that its next loss will meet, too."""
        now = [tensor.detach().clone() for tensor in self._tensors]
        _copy(self._tensors, self._copies)
        with same_randomness(self._tensors):
            loss = _one(loss_of(self._model, batch)).item()
        _copy(self._tensors, now)
        return loss

    def step(self, loss_of: LossOf, batch: Any, backward: Callable[[Tensor], object] | None) -> float:
        """The batch's loss now, and an optimizer step on it."""
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = _one(loss_of(self._model, batch))
            (backward or torch.autograd.backward)(loss)
        self._optimizer.step()
        return loss.item()


def _told(rates: Sequence[float], losses: Sequence[float], seen: RangeSeen, shares: Sequence[float]) -> RateFound:
    tried = tuple(rates[: len(losses)])
    falls, lowest, explodes = (None if place is None else tried[place] for place in (seen.falls, seen.lowest, seen.explodes))
    rate = None if lowest is None else lowest / _BELOW
    if lowest is None:
        reason = (
            f"no fall of the loss was to be told from noise between {tried[0]:.2g} and {tried[-1]:.2g} "
            "(take more steps, larger batches or a higher `high`)"
        )
    else:
        end = "does not explode" if explodes is None else f"explodes at {explodes:.2g}"
        more = "; it was still falling there, so try a higher `high`" if seen.is_still_falling and explodes is None else ""
        reason = f"the loss falls from {falls:.2g} on, is lowest at {lowest:.2g} and {end}: a quarter of {lowest:.2g}{more}"
    groups = () if rate is None else tuple(rate * share for share in shares)
    return RateFound(rate, groups, tried, tuple(losses), seen.smoothed(), falls, lowest, explodes, reason)


def _check(model: Any, optimizer: Any, low: float, high: float, steps: int) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"find_rate needs the model, a torch.nn.Module, got a {type(model).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    checks.number("low", low, low=0.0)
    checks.number("high", high, low=0.0)
    if not 0.0 < low < high:
        raise ValueError(f"low must be above 0 and below high, got {low=} and {high=}")
    checks.whole("steps", steps, low=LEAST_STEPS)
    if any("initial_lr" in group for group in optimizer.param_groups):
        raise ValueError("this optimizer has a scheduler already, whose base rate would stay; find the rate before it is made")


def _shares(optimizer: Optimizer) -> list[float]:
    """Every group's rate as a share of the highest."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if max(rates) == 0.0:
        raise ValueError("one group must have a rate above 0, as their ratios are kept; all have 0")
    return [rate / max(rates) for rate in rates]


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches again and again; those of an iterator, which can be gone through once, are remembered."""
    if isinstance(batches, Iterator):
        yield from cycle(batches)
    is_empty = False
    while not is_empty:
        is_empty = True
        for batch in batches:
            is_empty = False
            yield batch


def _one(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_of must return the loss as a tensor, got {loss!r}")
    if loss.numel() != 1:
        raise ValueError(f"loss_of must return one loss, got a tensor of shape {tuple(loss.shape)}; reduce it: loss.mean()")
    return loss


def _copy(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _set(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
