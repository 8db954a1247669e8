"""The closed loop: a problem, a policy, and one number going round."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot import checks
from surefoot.arithmetic import arithmetic
from surefoot.fleet import as_seeds, fleet, on_host
from surefoot.greedy import Greedy
from surefoot.runner import Fold, runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surefoot.fleet import Fleet
    from surefoot.policy import Policy
    from surefoot.problems import Problem

_LARGEST_RATE = 1e300
_FEW = 256
"""Up to so many runs, a policy's fast twin on plain numbers, run by run, was measured to beat one update of vectors."""


class Row(NamedTuple):
    """One optimizer step: how many came before it, its batch's loss before it, and the rate it was made at.

    Of a fleet, loss and rate are arrays with one entry per run, NaN after a run's first loss that is not finite.
    """

    step: int
    loss: Any
    rate: Any


def train(
    problem: Problem[Any] | Fleet[Any],
    policy: Policy[Any],
    *,
    base: float | Sequence[float] | None = None,
    steps: int | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    evaluate: Callable[[int, Any], None] | None = None,
    evaluate_at: frozenset[int] = frozenset(),
) -> Iterator[Row]:
    """Train a problem under a policy, one row per optimizer step: one run, or with `seeds` a fleet of them.

    A run whose loss is not finite ends there: nothing after it could be believed. In a fleet, the others go on.

    >>> from surefoot import Greedy
    >>> from surefoot.catalogue import problem
    >>> wines = problem("wine-mlp")
    >>> [row.loss.shape for row in train(wines, Greedy(), seeds=range(8), steps=2)]
    [(8,), (8,)]
    >>> [row.loss.shape for row in train(wines, Greedy(), seeds=range(8), base=[0.01, 0.1, 1.0], steps=1)]
    [(3, 8)]

    Args:
        problem: What to train; with `seeds`, a fleet can be given as well.
        policy: Who sets the rate.
        base: The base rate, 0 or more; the problem's own if None. With `seeds`, a list of them makes a grid.
        steps: The budget, 1 or more; the problem's own if None.
        seed: Seed of initialisation and batch order of a single run.
        seeds: Those of a fleet, one run each. Losses and rates have the shape (seeds,) then, or with a list of base rates the
            shape (base rates, seeds).
        evaluate: Called with the number of steps made and the held-out loss, or the losses of a fleet.
        evaluate_at: After which numbers of steps it is called.

    Raises:
        ValueError: A rate or a number of steps is outside its range, or there are no seeds.
    """
    base, steps = problem.base if base is None else base, problem.steps if steps is None else steps
    checks.whole("steps", steps, low=1)
    if seeds is None:
        checks.number("base", base, low=0.0)
        return _alone(problem, policy, base, steps, seed, evaluate=evaluate, evaluate_at=evaluate_at)
    return _together(fleet(problem), policy, base, steps, as_seeds(seeds), evaluate=evaluate, evaluate_at=evaluate_at)


def _together(
    runs: Fleet[Any],
    policy: Policy[Any],
    base: float | Sequence[float],
    steps: int,
    seeds: list[int],
    *,
    evaluate: Callable[[int, Any], None] | None,
    evaluate_at: frozenset[int],
) -> Iterator[Row]:
    is_grid = isinstance(base, (Sequence, np.ndarray))
    bases = list(base) if is_grid else [base]  # type: ignore[arg-type]
    if not bases:
        raise ValueError("base must name at least one rate, got none")
    for one in bases:
        checks.number("base", one, low=0.0)
    shape = (len(bases), len(seeds)) if is_grid else (len(seeds),)
    each = np.repeat(np.asarray(bases, np.float64), len(seeds))
    told = None if evaluate is None else lambda step, losses: evaluate(step, losses.reshape(shape))
    rows = drive(runs, [(policy, len(each))], each, seeds * len(bases), steps, evaluate=told, evaluate_at=evaluate_at)
    return (Row(step, loss.reshape(shape), rate.reshape(shape)) for step, loss, rate in rows)


def drive(
    together: Fleet[Any],
    crews: Sequence[tuple[Policy[Any], int]],
    bases: Any,
    seeds: Sequence[int],
    steps: int,
    *,
    evaluate: Callable[[int, Any], None] | None = None,
    evaluate_at: frozenset[int] = frozenset(),
    measure: Callable[[Any], Any] | None = None,
) -> Iterator[Row]:
    """Train a fleet under several policies, one row per step.

    It ends with the step after which no run is left, as far as that can be seen without waiting for a device.

    Args:
        together: The fleet.
        crews: Policies, each with the number of neighbouring runs that it drives.
        bases: The base rate of every run.
        seeds: The seed of every run.
        steps: The budget, 1 or more.
        evaluate: Called with the number of steps made and what is measured of the runs then.
        evaluate_at: After which numbers of steps it is called.
        measure: What is measured, from the fleet's runs to an array whose last dimension is that of the runs; their held-out
            losses if None.
    """
    runs, xp, measure = together.init(seeds), np, measure or together.held_out
    drivers: list[Any] = []
    ends = [sum(count for _, count in crews[: place + 1]) for place in range(len(crews))]
    spans = [slice(end - count, end) for end, (_, count) in zip(ends, crews, strict=True)]
    with np.errstate(over="ignore"):
        rates: Any = np.concatenate([bases[span] * policy.init().scale for span, (policy, _) in zip(spans, crews, strict=True)])
    is_left: Any = np.ones(len(rates), dtype=bool)
    for step in range(steps):
        # A single run is trained at any rate, too, and shows in its loss what becomes of it.
        sound = xp.where(rates < _LARGEST_RATE, rates, _LARGEST_RATE)
        runs, signals = together.step(runs, xp.where(is_left, sound, 0.0))
        loss = signals["loss"]
        if not drivers:  # Only now is it known which arithmetic the fleet is made of.
            xp = arithmetic(loss)
            bases, rates, is_left = (xp.asarray(array, device=loss.device) for array in (bases, rates, is_left))
            drivers = [_driver(policy, count, loss) for policy, count in crews]
        yield Row(step, xp.where(is_left, loss, nan), xp.where(is_left, rates, nan))
        is_left = is_left & xp.isfinite(loss)
        if on_host(loss) and not is_left.any():
            return
        with np.errstate(all="ignore"):  # What a diverged run makes of its numbers is no news.
            parts = [{name: signal[span] for name, signal in signals.items()} for span in spans]
            scales = [driver.advance(**part) for driver, part in zip(drivers, parts, strict=True)]
            # A schedule of time has one scale for all of its runs.
            rates = bases * xp.concatenate(
                [scale + xp.zeros_like(part["loss"]) for scale, part in zip(scales, parts, strict=True)]
            )
        if evaluate is not None and step + 1 in evaluate_at:
            evaluate(step + 1, xp.where(is_left, measure(runs), nan))


class _Each:
    """A policy that drives neighbouring runs one by one, each with its fast twin on plain numbers."""

    def __init__(self, policy: Policy[Any], count: int) -> None:
        self._drivers = [runner(policy) for _ in range(count)]

    def advance(self, loss: Any, **_signals: Any) -> Any:
        """Take in their losses and return their next scales."""
        return np.array([driver.advance(one) for driver, one in zip(self._drivers, loss.tolist(), strict=True)])


def _driver(policy: Policy[Any], count: int, loss: Any) -> Any:
    """What is measured to be the fastest way to drive so many runs."""
    is_quick = type(policy) is Greedy and count <= _FEW and isinstance(loss, np.ndarray)
    return _Each(policy, count) if is_quick else Fold(policy, policy.init())


def _alone(
    problem: Any,
    policy: Policy[Any],
    base: Any,
    steps: int,
    seed: int,
    *,
    evaluate: Callable[[int, float], None] | None,
    evaluate_at: frozenset[int],
) -> Iterator[Row]:
    run, driver = problem.init(seed), runner(policy)
    scale = driver.state.scale
    for step in range(steps):
        rate = base * scale
        run, signals = problem.step(run, rate)
        loss = signals["loss"]
        yield Row(step, loss, rate)
        if not isfinite(loss):
            return
        scale = driver.advance(**signals)
        if evaluate is not None and step + 1 in evaluate_at:
            evaluate(step + 1, problem.held_out(run))
