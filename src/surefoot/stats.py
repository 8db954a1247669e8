"""What a set of paired runs says about the policies in it."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surefoot.runs import Run

LAST_EVALUATIONS = 3
TARGET_MARGIN = 1.02


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
