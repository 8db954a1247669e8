"""Trials, trained: one by one, as a fleet where that is faster, or by several ranks."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from math import isfinite
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from surefoot import catalogue, spec, under_way
from surefoot.engine import TRAINING, on_ranks
from surefoot.fleet import fleet
from surefoot.keeping import SECONDS
from surefoot.learned import Learned
from surefoot.loop import Row, drive, train
from surefoot.policy import parts
from surefoot.runs import Run, Trial, evaluation_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from surefoot.keeping import Keeper
    from surefoot.policy import Policy
    from surefoot.problems import Problem

PRELOAD = ("surefoot.nmf", "sklearn.datasets")
"""What takes long to import, and is needed by trials; networks need `surefoot.engine.TRAINING` as well."""
TOGETHER = {"digits-mlp": 16, "breast-cancer-mlp": 16, "wine-mlp": 16, "digits-cnn": 8}
"""How many runs of a problem are trained as one fleet, measured on one core of a CPU against one run after another.

Perceptrons gain a factor of 3 to 7, the small convolutions 1.4. The larger convolutions and the transformer keep a core busy
with a single run, and gain nothing. More runs at once would gain more, and lose more when they are killed.
"""


def run_trial(trial: Trial, folder: Path | None = None) -> Run:
    """Train what a trial names, from the beginning to the end.

    Args:
        trial: The trial.
        folder: Where it keeps how far it is, and looks whether it was begun before; nowhere if None. What it keeps stays there.

    Raises:
        WorkError: Ranks set different rates, or something went wrong on one of them.
        WorkerDiedError: One of them died.
    """
    if trial.ranks == 1:
        return _trained(trial, folder)[0]
    # The networks of the catalogue live on CPUs, whatever else there is.
    run: Run = on_ranks(
        _on_a_rank, trial, folder, count=trial.ranks, backend="gloo", same=itemgetter(1), preload=(*TRAINING, *PRELOAD)
    )[0]
    return run


def _on_a_rank(trial: Trial, folder: Path | None) -> tuple[Run, str]:
    """The same on every rank: all go on from the same checkpoint, which the first one writes."""
    from torch import distributed

    return _trained(trial, folder, seconds=SECONDS if distributed.get_rank() == 0 else under_way.NEVER)


def _trained(trial: Trial, folder: Path | None, seconds: float = SECONDS) -> tuple[Run, str]:
    """A run, and the checksum of its losses and rates before they are rounded."""
    policy, evaluations, began = _policy(trial), [], perf_counter()
    keeper = keeper_of(folder, [trial], seconds)
    rows = list(
        train(
            problem_of(trial.problem, trial.optimizer, gradients=bool(signals(policy)), ranks=trial.ranks),
            policy,
            base=trial.base,
            steps=trial.steps,
            seed=trial.seed,
            evaluate=lambda step, loss: evaluations.append((step, loss)),
            evaluate_at=frozenset(evaluation_steps(trial.steps, trial.evaluations)),
            keeper=keeper,
        )
    )
    checksum = sha256(np.array(rows, np.float64).tobytes()).hexdigest()
    return _run(trial, rows, evaluations, _seconds(began, keeper)), checksum


def crews(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Trials in groups, each of which is trained as one fleet; most are alone where a fleet gains nothing."""
    cells: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        cell = (trial.problem, trial.optimizer, trial.steps, trial.evaluations, trial.ranks)
        cells.setdefault(cell, []).append(trial)
    return [
        tuple(cell[first : first + size])
        for cell in cells.values()
        for size in [TOGETHER.get(cell[0].problem, 1) if cell[0].ranks == 1 else 1]
        for first in range(0, len(cell), size)
    ]


def run_crew(trials: Sequence[Trial], folder: Path | None = None) -> list[Run]:
    """Train trials of one cell as one fleet.

    The figures are those of `run_trial` but for rounding: a fleet sums in another order. On the machine tried, that order does
    not depend on who else is in the fleet as long as they are an even number, so an odd number is filled up with a second copy
    of the first. Each run's time is an equal share.

    Args:
        trials: One or more of the same problem, optimizer, budget, number of evaluations and number of ranks.
        folder: Where they keep how far they are, as for `run_trial`.
    """
    if trials[0].problem not in TOGETHER or trials[0].ranks > 1:
        return [run_trial(trial, folder) for trial in trials]
    by_policy: dict[str, list[Trial]] = {}
    for trial in (*trials, *trials[: len(trials) % 2]):
        by_policy.setdefault(json.dumps([trial.policy, trial.weights], sort_keys=True), []).append(trial)
    ordered, began = [trial for crew in by_policy.values() for trial in crew], perf_counter()
    first, evaluations, keeper = ordered[0], [], keeper_of(folder, trials)
    policies = [(_policy(crew[0]), len(crew)) for crew in by_policy.values()]
    rows = list(
        drive(
            fleet(problem_of(first.problem, first.optimizer, gradients=any(signals(policy) for policy, _ in policies))),
            policies,
            np.array([trial.base for trial in ordered]),
            [trial.seed for trial in ordered],
            first.steps,
            evaluate=lambda step, losses: evaluations.append((step, losses)),
            evaluate_at=frozenset(evaluation_steps(first.steps, first.evaluations)),
            keeper=keeper,
        )
    )
    seconds = _seconds(began, keeper) / len(trials)
    runs = {}
    for place, trial in enumerate(ordered):
        own = [Row(row.step, row.loss[place], row.rate[place]) for row in rows]
        end = next((row.step for row in own if not isfinite(row.loss)), len(own))
        held_out = [(step, losses[place]) for step, losses in evaluations if step <= end]
        runs[trial.key] = _run(trial, own[: end + 1], held_out, seconds)
    return [runs[trial.key] for trial in trials]


def signals(policy: Policy[Any]) -> set[str]:
    """What has to be measured of every step, besides its loss, for a policy and all those that it is made of."""
    every = list(parts(policy))
    asked = {name for part in every for name in getattr(part, "signals", ())}
    return asked | ({"progress"} if any(isinstance(part, Learned) and part.timed for part in every) else set())


def weights(policy: Policy[Any]) -> str:
    """The checksums of what was learned in a policy, with commas between: a file that is learned anew makes other trials."""
    return ",".join(part.card.sha256 for part in parts(policy) if isinstance(part, Learned))


def keeper_of(folder: Path | None, trials: Sequence[Trial], seconds: float = SECONDS) -> Keeper | None:
    """Who keeps how far trials are that are trained together, in a folder; None if there is none."""
    return under_way.keeper(folder, ",".join(trial.key for trial in trials), seconds=seconds)


def _seconds(began: float, keeper: Keeper | None) -> float:
    """What a training took, with what it took before it was cut."""
    return perf_counter() - began + (0.0 if keeper is None else keeper.before)


def _run(trial: Trial, rows: Sequence[Row], evaluations: Sequence[tuple[int, float]], seconds: float) -> Run:
    with np.errstate(over="ignore"):  # A loss beyond float32 is kept as infinite.
        steps = np.array(rows, dtype=np.float32).reshape(-1, 3)
        held_out = np.array(evaluations, dtype=np.float32).reshape(-1, 2)
    is_whole = len(steps) == trial.steps and np.isfinite(steps).all() and np.isfinite(held_out).all()
    status: Literal["finished", "diverged"] = "finished" if is_whole else "diverged"
    return Run(trial, steps[:, 1], steps[:, 2], held_out[:, 0], held_out[:, 1], status, seconds)


def _policy(trial: Trial) -> Policy[Any]:
    policy: Policy[Any] = spec.from_dict(trial.policy)
    if weights(policy) != trial.weights:
        raise ValueError(
            f"the learned policy of {trial.policy} is no longer what the comparison was planned with; plan it anew"
        )
    return policy


@cache
def problem_of(name: str, optimizer: str, *, gradients: bool = False, ranks: int = 1) -> Problem[Any]:
    """A problem of the catalogue, made once in each process."""
    # Settings that some problems do not have are named only where they are not the usual ones.
    settings = {**({"gradients": True} if gradients else {}), **({} if ranks == 1 else {"ranks": ranks})}
    return catalogue.problem(name, optimizer, **settings)
