"""How good the rates are that a range test finds, beside the best of a grid and beside the steepest slope.

    pip install 'surefoot[contest]'
    python benchmarks/find_rate.py

The networks among the comparison's development tasks whose data are on this machine, each as it is and with noise: batches of
4, a fifth of the labels drawn at random, and twice the steps. Both optimizers, 5 seeds. Every seed has a range test of its own,
from 1e-6 to 10, and is trained at the rate that was found and at the 15 rates of a grid half a decade apart. What counts is the
held-out loss at the end over that of the grid's best rate, which is the best for all seeds together; a run that diverged, or
ended more than 100 times above, counts as 100. Where a rule finds nothing, the row says so, and the rate of 0.001 counts.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from surefoot import Constant, Cosine
from surefoot.contest import tasks
from surefoot.contest.range_test import steepest
from surefoot.loop import train
from surefoot.networks import _loss
from surefoot.rate_finder import find_rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surefoot.data import Split
    from surefoot.networks import Network

SEEDS, LOW, HIGH, WORST, ELSE = range(5), 1e-6, 10.0, 100.0, 1e-3
GRID = [10.0 ** (half / 2) for half in range(-12, 3)]
SCHEDULES = {"cosine": Cosine, "constant": lambda _: Constant()}
RULES = ("find_rate, 100 steps", "find_rate, 200 steps", "steepest, 100 steps", "steepest, 200 steps")


class Row(NamedTuple):
    """One run at a found rate: the setting, the schedule, the rule, whether it found one, and its loss over the best's."""

    setting: str
    schedule: str
    rule: str
    is_found: bool
    ratio: float


def problems() -> Iterator[tuple[str, Network]]:
    """Every task, as it is and with noise, under both optimizers."""
    for task in tasks.load():
        if task.role == "development" and task.model != "factorisation" and task.missing() is None:
            for optimizer in task.optimizers:
                problem: Any = task.problem(optimizer)
                yield "as it is", problem
                mixed = partial(_mixed, problem.data)
                yield "with noise", replace(problem, batch_size=4, steps=2 * problem.steps, data=mixed)


def _mixed(data: Any) -> Split:
    """The examples with a fifth of the training labels drawn at random."""
    return _drawn(data)


@cache
def _drawn(data: Any) -> Split:
    split, draw = data(), np.random.default_rng(0)
    labels = split.train_y.copy()
    hit = draw.random(len(labels)) < 0.2  # noqa: PLR2004 - The docstring says so.
    labels[hit] = draw.integers(0, int(labels.max()) + 1, hit.sum())
    return split._replace(train_y=labels)  # type: ignore[no-any-return]


def found(problem: Network, seed: int, rule: str) -> float | None:
    """The rate that a rule finds from fresh weights."""
    name, _, steps = rule.partition(", ")
    run, data = problem.init(1000 + seed), problem.data()

    def batches() -> Iterator[Any]:
        while True:
            yield run.batches.draw()

    def loss_of(model: Any, rows: Any) -> Any:
        return _loss(model, data.train_x[rows], data.train_y[rows])

    settings = {"low": LOW, "high": HIGH, "steps": int(steps.split()[0])}
    if name == "find_rate":
        return find_rate(run.model, run.optimizer, batches(), loss_of, **settings).rate  # type: ignore[arg-type]
    rates = [LOW * (HIGH / LOW) ** (step / (settings["steps"] - 1)) for step in range(int(settings["steps"]))]
    return steepest([problem.step(run, rate)[1]["loss"] for rate in rates], rates)


def rows(setting: str, problem: Network) -> Iterator[Row]:
    """What becomes of every rule's rates, under every schedule."""
    rates = {rule: [found(problem, seed, rule) for seed in SEEDS] for rule in RULES}
    bases = sorted({*GRID, *(rate or ELSE for each in rates.values() for rate in each)})
    for name, schedule in SCHEDULES.items():
        ends: dict[int, Any] = {}
        told = lambda step, losses, ends=ends: ends.update({step: np.array(losses)})  # noqa: E731 - A line.
        made = schedule(problem.steps)
        for _ in train(problem, made, base=bases, seeds=SEEDS, evaluate=told, evaluate_at=frozenset({problem.steps})):
            pass
        losses = np.where(np.isfinite(ends[problem.steps]), ends[problem.steps], np.inf)
        best = losses[min((bases.index(rate) for rate in GRID), key=lambda place: np.log(losses[place]).mean())]
        for rule, each in rates.items():
            for seed, rate in zip(SEEDS, each, strict=True):
                ratio = losses[bases.index(rate or ELSE), seed] / best[seed]
                yield Row(setting, name, rule, rate is not None, min(float(ratio), WORST))


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    measured: list[Row] = []
    for setting, problem in problems():
        measured += rows(setting, problem)
        print(f"{problem.name}, {problem.optimizer}, {setting}", flush=True)
    print("\n| setting | schedule | rule | geometric mean | median | 9 of 10 below | 3 times the best or more | found none |")
    print("|---|---|---|---|---|---|---|---|")
    for setting, name, rule in dict.fromkeys((row.setting, row.schedule, row.rule) for row in measured):
        some = [row for row in measured if (row.setting, row.schedule, row.rule) == (setting, name, rule)]
        ratios = np.array([row.ratio for row in some])
        mean, median, high = math.exp(np.log(ratios).mean()), np.median(ratios), np.quantile(ratios, 0.9)
        lost, none = (ratios >= 3.0).mean(), sum(not row.is_found for row in some)  # noqa: PLR2004 - The heading says so.
        print(f"| {setting} | {name} | {rule} | {mean:.2f} | {median:.2f} | {high:.2f} | {lost:.0%} | {none} of {len(some)} |")


if __name__ == "__main__":
    main()
