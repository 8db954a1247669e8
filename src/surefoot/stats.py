"""What a set of paired runs says about the policies in it."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, isfinite, lgamma, log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from surefoot.runs import Run

LAST_EVALUATIONS = 3
TARGET_MARGIN = 1.02
SAME = 0.01
"""A difference of less than this fraction is none."""
_SMALLEST = 1e-30
_DRAWS = 10_000


@dataclass(frozen=True)
class Summary:
    """One policy in one cell.

    Attributes:
        policy: The label it was entered under.
        runs: How many seeds it was trained from.
        diverged: How many of these runs diverged.
        final: Mean over seeds of the final held-out loss; infinite if any run diverged, so that it ranks last.
        spread: Sample standard deviation over seeds of the final held-out loss; NaN with fewer than two finite ones.
        steps_to_target: Median over seeds of the optimizer steps to the cell's target; infinite if half of them missed it.
        versus: Mean paired difference to the reference's final held-out loss, as a fraction: 0.01 is 1% higher, so worse.
    """

    policy: str
    runs: int
    diverged: int
    final: float
    spread: float
    steps_to_target: float
    versus: float


@dataclass(frozen=True, eq=False)
class Cell:
    """One problem with one optimizer: every policy from the same seeds, base rate and budget.

    Attributes:
        problem: The problem's name.
        optimizer: The optimizer's name.
        base: The base rate of every policy.
        steps: The budget in optimizer steps.
        reference: Label of the policy that the others are compared with.
        target: Held-out loss that `steps_to_target` refers to: 1.02 times the median of the reference's final ones.
        runs: Runs by policy label, ordered by seed.
        summaries: One per policy, the lowest final loss first.
    """

    problem: str
    optimizer: str
    base: float
    steps: int
    reference: str
    target: float
    runs: Mapping[str, Sequence[Run]]
    summaries: Sequence[Summary]

    @property
    def ranks(self) -> int:
        """How many processes trained each run together."""
        return next(iter(self.runs.values()))[0].trial.ranks


class Ratio(NamedTuple):
    """What becomes of losses over others, pair by pair.

    Attributes:
        mean: Geometric mean; below 1 is better.
        low, high: Its 95% interval, by a bootstrap over pairs.
        median: The median of the pairs.
        wins: In how many of them the loss is below the other.
        ties: In how many it is the same.
        pairs: How many there are.
    """

    mean: float
    low: float
    high: float
    median: float
    wins: int
    ties: int
    pairs: int

    @property
    def verdict(self) -> str:
        """`"better"`, `"worse"`, `"equal"`, which is within 1%, or `"open"`."""
        if max(self.high - 1.0, 1.0 - self.low) < SAME:
            return "equal"
        return "better" if self.high < 1.0 else "worse" if self.low > 1.0 else "open"

    @property
    def win_rate(self) -> tuple[float, float, float]:
        """The share of wins among the pairs that are no ties, and its 95% interval; NaN and all of 0 to 1 without any."""
        decided = self.pairs - self.ties
        return (self.wins / decided if decided else float("nan"), *clopper_pearson(self.wins, decided))


def ratio(losses: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray, *, seed: int = 0) -> Ratio:
    """Compare losses with others of the same seeds, or of the same problems.

    >>> found = ratio([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    >>> round(found.mean, 6), found.wins, found.verdict
    (0.5, 3, 'better')

    Args:
        losses: One or more, finite and 0 or more.
        others: As many.
        seed: Of the bootstrap.
    """
    pairs = np.log(np.maximum(losses, _SMALLEST)) - np.log(np.maximum(others, _SMALLEST))
    low, high = bootstrap(pairs, seed=seed)
    wins, ties = int(np.sum(pairs < 0.0)), int(np.sum(pairs == 0.0))
    return Ratio(exp(pairs.mean()), exp(low), exp(high), exp(np.median(pairs)), wins, ties, len(pairs))


def bootstrap(values: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean of values, from 10,000 samples drawn from them."""
    random, count = np.random.default_rng(seed), len(values)
    means = [values[random.integers(0, count, (100, count))].mean(axis=1) for _ in range(_DRAWS // 100)]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def clopper_pearson(hits: int, count: int) -> tuple[float, float]:
    """The exact 95% interval of a probability.

    >>> low, high = clopper_pearson(0, 10_000)
    >>> low, round(high, 6)
    (0.0, 0.000369)

    Args:
        hits: How often it happened.
        count: Out of how many times; with 0 the interval is all from 0 to 1.

    Reference: Clopper and Pearson, 1934, Biometrika 26(4), 404-413.
    """
    low = 0.0 if hits == 0 else _bisected(lambda p: _at_most(hits - 1, count, p) - 0.975)
    high = 1.0 if hits == count else _bisected(lambda p: _at_most(hits, count, p) - 0.025)
    return low, high


def clopper_pearson_lower(hits: int, count: int) -> float:
    """The exact one-sided 95% lower bound of a probability: it is above this.

    >>> round(clopper_pearson_lower(29, 29), 4), round(clopper_pearson_lower(35, 38), 4)
    (0.9019, 0.8084)

    Args:
        hits: How often it happened.
        count: Out of how many times; with 0 the bound is 0.

    Reference: Clopper and Pearson, 1934, Biometrika 26(4), 404-413.
    """
    return 0.0 if hits == 0 else _bisected(lambda p: _at_most(hits - 1, count, p) - 0.95)


def _at_most(hits: int, count: int, probability: float) -> float:
    """The probability of at most so many hits."""
    numbers = range(hits + 1)
    ways = [lgamma(count + 1) - lgamma(number + 1) - lgamma(count - number + 1) for number in numbers]
    yes, no = log(probability), log(1.0 - probability)
    return float(sum(exp(way + number * yes + (count - number) * no) for number, way in zip(numbers, ways, strict=True)))


def _bisected(falling: Callable[[float], float]) -> float:
    """Where a function that falls from 0 to 1 crosses 0."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if falling(middle) > 0.0 else (low, middle)
    return 0.5 * (low + high)


def final_loss(run: Run) -> float:
    """The mean of the last three held-out losses (fewer if there are fewer), infinite if the run diverged."""
    if run.status == "diverged":
        return inf
    return float(np.mean(run.held_out[-LAST_EVALUATIONS:], dtype=np.float64))


def steps_to(run: Run, target: float) -> float:
    """The number of steps after which the held-out loss was first taken at or below `target`, infinite if never.

    A run that diverged has missed the target, wherever it had been before.
    """
    if run.status == "diverged":
        return inf
    hits = run.held_out_step[run.held_out <= target]
    return float(hits[0]) if len(hits) else inf


def cell(problem: str, optimizer: str, runs: Mapping[str, Sequence[Run]]) -> Cell:
    """Judge the policies of one cell by their paired runs.

    The reference is `cosine` if it is there, and the first policy otherwise.

    Args:
        problem: The problem's name.
        optimizer: The optimizer's name.
        runs: At least one run for every policy label, the same seeds in the same order for each, all with one base rate and one
            budget.
    """
    trial = next(iter(runs.values()))[0].trial
    reference = "cosine" if "cosine" in runs else next(iter(runs))
    finals = {label: np.array([final_loss(run) for run in each]) for label, each in runs.items()}
    target = TARGET_MARGIN * float(np.median(finals[reference]))
    summaries = [_summary(label, each, finals[label], finals[reference], target) for label, each in runs.items()]
    summaries.sort(key=lambda summary: summary.final)
    return Cell(problem, optimizer, trial.base, trial.steps, reference, target, runs, summaries)


def _summary(label: str, runs: Sequence[Run], final: np.ndarray, reference: np.ndarray, target: float) -> Summary:
    finite = final[np.isfinite(final)]
    return Summary(
        policy=label,
        runs=len(runs),
        diverged=sum(run.status == "diverged" for run in runs),
        final=float(final.mean()),
        spread=float(np.std(finite, ddof=1)) if len(finite) > 1 else float("nan"),
        steps_to_target=float(np.median([steps_to(run, target) for run in runs])),
        versus=_versus(final, reference),
    )


def _versus(final: np.ndarray, reference: np.ndarray) -> float:
    """The mean paired log ratio, as a relative difference; NaN where the reference itself diverged."""
    if not np.isfinite(reference).all():
        return float("nan")
    difference = float(np.mean(np.log(np.maximum(final, 1e-30) / np.maximum(reference, 1e-30))))
    return exp(difference) - 1.0 if isfinite(difference) else inf
