"""The closed loop: a problem, a policy, and one number going round."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot import checks
from surefoot.arithmetic import arithmetic
from surefoot.fleet import as_seeds, fleet, is_resumable, on_host
from surefoot.greedy import Greedy
from surefoot.keeping import restored
from surefoot.runner import Fold, runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from surefoot.fleet import Fleet
    from surefoot.keeping import Keeper
    from surefoot.policy import Policy
    from surefoot.problems import Problem
    from surefoot.runner import Runner

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
    keeper: Keeper | None = None,
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
        keeper: Keeps where the training is, now and then, if its runs can be saved. Where it finds that there is something to
            go on from, rows and evaluations of before are those of then, and only the further steps are made.

    Raises:
        ValueError: A rate or a number of steps is outside its range, or there are no seeds.
    """
    base, steps = problem.base if base is None else base, problem.steps if steps is None else steps
    checks.whole("steps", steps, low=1)
    if seeds is None:
        checks.number("base", base, low=0.0)
        return _alone(problem, policy, base, steps, seed, evaluate=evaluate, evaluate_at=evaluate_at, keeper=keeper)
    return _together(
        fleet(problem), policy, base, steps, as_seeds(seeds), evaluate=evaluate, evaluate_at=evaluate_at, keeper=keeper
    )


def _together(
    runs: Fleet[Any],
    policy: Policy[Any],
    base: float | Sequence[float],
    steps: int,
    seeds: list[int],
    *,
    evaluate: Callable[[int, Any], None] | None,
    evaluate_at: frozenset[int],
    keeper: Keeper | None,
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
    crews = [(policy, len(each))]
    rows = drive(runs, crews, each, seeds * len(bases), steps, evaluate=told, evaluate_at=evaluate_at, keeper=keeper)
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
    keeper: Keeper | None = None,
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
        keeper: Keeps where the fleet is, as for `train`; rows and evaluations of before are NumPy arrays, wherever it lives.
    """
    keeper, xp, measure = keeper if is_resumable(together) else None, np, measure or together.held_out
    spans = _spans(crews)
    found = None if keeper is None else keeper.find(partial(_resumed, together, crews, seeds))
    runs, rates, is_left, states = found or (together.init(seeds), *_first(crews, bases, spans), None)
    drivers: list[Any] = []
    if keeper is not None:
        yield from map(Row._make, keeper.past(evaluate))
        evaluate = keeper.noting(evaluate)
    for step in range(0 if keeper is None else keeper.step, steps):
        # A single run is trained at any rate, too, and shows in its loss what becomes of it.
        sound = xp.where(rates < _LARGEST_RATE, rates, _LARGEST_RATE)
        runs, signals = together.step(runs, xp.where(is_left, sound, 0.0))
        loss = signals["loss"]
        if not drivers:  # Only now is it known which arithmetic the fleet is made of.
            xp = arithmetic(loss)
            bases, rates, is_left = (xp.asarray(array, device=loss.device) for array in (bases, rates, is_left))
            drivers = _drivers(crews, loss, states)
        row = Row(step, xp.where(is_left, loss, nan), xp.where(is_left, rates, nan))
        yield row
        is_left = is_left & xp.isfinite(loss)
        if on_host(loss) and not is_left.any():
            return
        with np.errstate(all="ignore"):  # What a diverged run makes of its numbers is no news.
            rates = bases * _scales(xp, drivers, [{name: signal[span] for name, signal in signals.items()} for span in spans])
        if evaluate is not None and step + 1 in evaluate_at:
            evaluate(step + 1, xp.where(is_left, measure(runs), nan))
        if keeper is not None and keeper.is_due(row.loss, row.rate):
            keeper.keep((together.save(runs), rates, is_left, [driver.state for driver in drivers]))  # type: ignore[attr-defined]


def _spans(crews: Sequence[tuple[Policy[Any], int]]) -> list[slice]:
    """Where the runs of each policy stand among all."""
    ends = list(accumulate(count for _, count in crews))
    return [slice(end - count, end) for end, (_, count) in zip(ends, crews, strict=True)]


def _first(crews: Sequence[tuple[Policy[Any], int]], bases: Any, spans: Sequence[slice]) -> tuple[Any, Any]:
    """The rates of the first step, and that all runs are left."""
    with np.errstate(over="ignore"):
        rates = np.concatenate([bases[span] * policy.init().scale for span, (policy, _) in zip(spans, crews, strict=True)])
    return rates, np.ones(len(rates), dtype=bool)


def _scales(xp: Any, drivers: Sequence[Any], signals: Sequence[Mapping[str, Any]]) -> Any:
    """The next scale of every run; a schedule of time has one for all of its runs."""
    scales = [driver.advance(**part) + xp.zeros_like(part["loss"]) for driver, part in zip(drivers, signals, strict=True)]
    return xp.concatenate(scales)


def _resumed(
    together: Any, crews: Sequence[tuple[Policy[Any], int]], seeds: Sequence[int], where: Any
) -> tuple[Any, Any, Any, list[Any]]:
    """Runs, rates, who is left, and the policies' states, from what was kept of them."""
    runs, rates, is_left, states = where
    named = [restored(policy.init(), state) for (policy, _), state in zip(crews, states, strict=True)]
    return together.resume(seeds, runs), rates, is_left, named


class _Each:
    """A policy that drives neighbouring runs one by one, each with its fast twin on plain numbers."""

    def __init__(self, policy: Policy[Any], states: Sequence[Any]) -> None:
        self._drivers = [runner(policy, state) for state in states]

    @property
    def state(self) -> list[Any]:
        """The policy's state in every run."""
        return [driver.state for driver in self._drivers]

    def advance(self, loss: Any, **_signals: Any) -> Any:
        """Take in their losses and return their next scales."""
        return np.array([driver.advance(one) for driver, one in zip(self._drivers, loss.tolist(), strict=True)])


def _drivers(crews: Sequence[tuple[Policy[Any], int]], loss: Any, states: Sequence[Any] | None) -> list[Any]:
    """What drives the runs, from these states on, or from the beginning."""
    xp = arithmetic(loss)
    made: list[Any] = []
    for place, (policy, count) in enumerate(crews):
        state = policy.init() if states is None else states[place]
        # What is measured to be the fastest way to drive so many runs.
        if type(policy) is Greedy and count <= _FEW and isinstance(loss, np.ndarray):
            made.append(_Each(policy, [state] * count if states is None else state))
        else:
            made.append(Fold(policy, state if states is None else _moved(state, partial(xp.asarray, device=loss.device))))
    return made


def _moved(state: Any, to: Callable[[Any], Any]) -> Any:
    """A state whose arrays are put where the fleet lives."""
    if isinstance(state, tuple):
        inners = [_moved(inner, to) for inner in state]
        return type(state)(*inners) if hasattr(state, "_fields") else tuple(inners)
    return to(state) if isinstance(state, np.ndarray) else state


def _alone(
    problem: Any,
    policy: Policy[Any],
    base: Any,
    steps: int,
    seed: int,
    *,
    evaluate: Callable[[int, float], None] | None,
    evaluate_at: frozenset[int],
    keeper: Keeper | None,
) -> Iterator[Row]:
    keeper = keeper if is_resumable(problem) else None
    found = None if keeper is None else keeper.find(partial(_resumed_alone, problem, policy, seed))
    run, driver = found or (problem.init(seed), runner(policy))
    if keeper is not None:
        yield from map(Row._make, keeper.past(evaluate))
        evaluate = keeper.noting(evaluate)
    scale = driver.state.scale
    for step in range(0 if keeper is None else keeper.step, steps):
        rate = base * scale
        run, signals = problem.step(run, rate)
        loss = signals["loss"]
        yield Row(step, loss, rate)
        if not isfinite(loss):
            return
        scale = driver.advance(**signals)
        if evaluate is not None and step + 1 in evaluate_at:
            evaluate(step + 1, problem.held_out(run))
        if keeper is not None and keeper.is_due(loss, rate):
            keeper.keep((problem.save(run), driver.state))


def _resumed_alone(problem: Any, policy: Policy[Any], seed: int, where: Any) -> tuple[Any, Runner]:
    """A run and what drives it, from what was kept of them."""
    run, state = where
    return problem.resume(seed, run), runner(policy, restored(policy.init(), state))
