"""What a step costs with GreedyLR, with hypergradient descent and with line search, one run at a time.

    pip install 'surefoot[contest]'
    python benchmarks/line_search.py

All take turns of a hundred steps on the same task, so that whatever else the machine does slows all of them alike; the time of
a method is the least of its turns. Line search begins at its authors' default, the others at 0.03.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from surefoot import Constant, Greedy
from surefoot.contest.tasks import load
from surefoot.runner import runner

TASKS = ("digits-mlp", "digits-cnn", "modules-letters", "income-mlp")
METHODS = {
    "SGD, constant": ("sgd", Constant(), 0.03),
    "SGD, GreedyLR": ("sgd", Greedy(), 0.03),
    "hypergradient, per parameter": ("hypergradient-parameter-multiplicative-sgd", Constant(), 0.03),
    "line search": ("backtracking", Constant(), 1.0),
}
TURNS, STEPS = 5, 100


class Training:
    """One run under one policy."""

    def __init__(self, task: Any, optimizer: str, policy: Any, base: float) -> None:
        self.problem, self.base, self.driver = task.problem(optimizer), base, runner(policy)
        self.run, self.scale, self.best = self.problem.init(0), 1.0, float("inf")

    def turn(self) -> None:
        """Some steps, timed."""
        began = perf_counter()
        for _ in range(STEPS):
            self.run, signals = self.problem.step(self.run, self.base * self.scale)
            self.scale = self.driver.advance(**signals)
        self.best = min(self.best, (perf_counter() - began) / STEPS)

    @property
    def forwards(self) -> float:
        """Forward passes per step."""
        optimizer = self.run.optimizer
        return 1.0 + getattr(optimizer, "trials", 0) / max(1, getattr(optimizer, "steps", 1) or 1)


def main() -> None:
    """Print a table for every task."""
    tasks = {task.name: task for task in load()}
    print("| task | method | ms per step | over a constant rate | forward passes per step |\n|---|---|--:|--:|--:|")
    for name in TASKS:
        if sentence := tasks[name].missing():
            print(f"Skipped {sentence}")
            continue
        trainings = {method: Training(tasks[name], *settings) for method, settings in METHODS.items()}
        for _ in range(TURNS):
            for training in trainings.values():
                training.turn()
        plain = next(iter(trainings.values())).best
        for method, training in trainings.items():
            times = f"{1000 * training.best:.3f} | {training.best / plain:.2f}"
            print(f"| {name} | {method} | {times} | {training.forwards:.2f} |")


if __name__ == "__main__":
    main()
