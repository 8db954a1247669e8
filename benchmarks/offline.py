"""What a policy from logs is worth: 1,020 runs of twelve ordinary schedules at random rates, learned from in three ways.

It prints the geometric mean of the final held-out loss over 24 factorisations that no run was made on, from five base rates:
of warmup-stable-decay without warmup, and of policies that copied what was done, that took every run alone, and that compared
runs of the same seed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import Run, WarmupStableDecay, lineup
from surefoot.control import Control
from surefoot.episodes import Episodes, Task
from surefoot.features import Features
from surefoot.fleet import fleet
from surefoot.learn.awr import Regression, constant, from_store
from surefoot.loop import drive
from surefoot.measured import Measured
from surefoot.runs import Trial
from surefoot.spec import to_dict
from surefoot.tasks import random_factorisations

if TYPE_CHECKING:
    from collections.abc import Callable

PROBLEM = random_factorisations()
SCHEDULES = (
    *("greedy", "constant", "linear", "cosine", "cosine-warmup", "step"),
    *("exponential", "inverse-time", "polynomial", "cosine-restarts", "one-cycle", "wsd"),
)
RUNS, PER_SEED, RATES, FIRST = 1020, 12, (0.005, 1.0), 100_000
STARTS, TESTS = (0.01, 0.05, 0.2, 0.5, 1.0), range(24)


def logs() -> list[Run]:
    """Runs of random schedules at random rates, twelve from each seed."""
    random = np.random.default_rng(0)
    bases = RATES[0] * (RATES[1] / RATES[0]) ** random.random(RUNS)
    which = random.integers(len(SCHEDULES), size=RUNS)
    order = np.argsort(which, kind="stable")
    policies = [lineup.enter(name, PROBLEM.steps) for name in SCHEDULES]
    crews = [(policy, int((which == place).sum())) for place, policy in enumerate(policies)]
    seeds = [FIRST + int(number) // PER_SEED for number in order]
    noted = Measured(fleet(PROBLEM), ["alignment", "relative_step"])
    rows = list(drive(noted, crews, bases[order], seeds, PROBLEM.steps))
    table: dict[str, Any] = {name: np.stack([getattr(row, name) for row in rows]) for name in ("loss", "rate")}
    table |= {name: np.stack(values) for name, values in noted.kept.items()}
    made, nothing = [], np.zeros(0, np.float32)
    for place, number in enumerate(order):
        about = PROBLEM.name, PROBLEM.revision, PROBLEM.optimizer, to_dict(policies[which[number]])
        trial = Trial(*about, float(bases[number]), PROBLEM.steps, 1, seeds[place], "")
        kept = {name: values[:, place].astype(np.float32) for name, values in table.items()}
        made.append(Run(trial, kept.pop("loss"), kept.pop("rate"), nothing, nothing, "finished", 0.0, kept))
    return made


def finals(control: Control, network: Callable[[Any], Any] | None) -> list[float]:
    """Geometric means of the final held-out loss, start by start; a network of None says nothing."""
    count = len(STARTS) * len(TESTS)
    episodes = Episodes(Task(fleet(PROBLEM), control, PROBLEM.steps, (1.0, 1.0), worst=1e6), count)
    episodes.begin(range(count), [*TESTS] * len(STARTS))
    episodes.rate[:] = np.repeat(STARTS, len(TESTS))
    awake = np.ones(count, bool)
    while awake.any():
        actions = np.zeros(count) if network is None else np.clip(network(episodes.view().T), -1.0, 1.0)
        outcome = episodes.advance(actions, awake)
        awake &= ~(outcome.is_over | outcome.has_diverged)
    # `Episodes.held_out` is the logarithm.
    means: list[float] = np.exp(episodes.held_out().reshape(len(STARTS), -1).mean(axis=1)).tolist()
    return means


def main() -> None:
    """Learn, measure and print."""
    steps = PROBLEM.steps
    stable = Control(Features(), WarmupStableDecay(steps, warmup=0.0, decay=0.3), steps)
    found = {"warmup-stable-decay": finals(stable, None)}
    runs, paired = logs(), Regression(control=partial(constant, tier="gradient"), unlimited=False)
    alone = replace(paired, partners=0)
    ways = {"copied": replace(alone, temperature=inf), "alone": replace(alone, temperature=1.0), "paired": paired}
    for name, settings in ways.items():
        network, _ = from_store(runs, settings)
        found[name] = finals(constant(steps, tier="gradient"), network)
    print("| |", " | ".join(f"{start:g}" for start in STARTS), "|")
    for name, means in found.items():
        print(f"| {name} |", " | ".join(f"{mean:.3f}" for mean in means), "|")


if __name__ == "__main__":
    main()
