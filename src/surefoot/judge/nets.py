"""Arenas of networks: the problems of the zoo that nothing is learned on, and some that policies are learned on, for tuning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from surefoot.judge.arenas import Arena
from surefoot.judge.entrants import CLOSED, SCHEDULES, Contestant
from surefoot.zoo import judging, training

if TYPE_CHECKING:
    from surefoot.networks import Network

SLOW = {"fashion-cnn": 400, "stdlib-gpt": 200}
"""Vision and language, with their budgets: how fast they get to a target counts as well. A run takes seconds, so there are
fewer of them."""
KNOWN = {
    "plain-sgd": ("digits-16", "teacher-48"),
    "sgd": ("digits-32-noisy", "mixture-16-strong"),
    "adam": ("digits-32x32", "mixture-32-noisy"),
    "adamw": ("digits-24x24-noisy-normed", "mixture-24x24"),
}
"""Problems that policies are learned on, by optimizer, on which rivals' general rates are tuned; others drive Adam's."""
ANCHORS = {"plain-sgd": 0.1, "sgd": 0.03, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003, "adagrad": 0.03}
"""Where the common grid of rates begins, by optimizer."""
GRID = (-3, 2)
"""Places of that grid, in half decades."""
_FEW = tuple(Contestant(entry) for entry in ("constant", "cosine", "wsd"))
_WRONG = tuple(Contestant(entry) for entry in ("cosine", "wsd"))
_ALL = tuple(Contestant(entry) for entry in SCHEDULES + CLOSED)
_FIRST = 90_000
"""Far from the seeds that anything is learned from."""


def arenas(*, quick: bool = False) -> list[Arena]:
    """All of them, or small ones for a quick look that claims nothing.

    Raises:
        DataMissing: Fashion-MNIST, once it is trained on, is not on this machine and could not be fetched.
    """
    chosen = judging()
    if quick:
        chosen = [one for one in chosen if one.problem.name in {"modules-24x24", "teacher-rmsprop"}]
    optimizers = {one.problem.optimizer for one in chosen}
    known = {optimizer: _known(optimizer, quick) for optimizer in sorted(optimizers)}
    tuned_on = {optimizer: tuple(arena.name for arena in each) for optimizer, each in known.items()}
    return [
        *(arena for each in known.values() for arena in each),
        *(_judged(one.axis, one.problem, tuned_on[one.problem.optimizer], quick) for one in chosen),
    ]


def _known(optimizer: str, quick: bool) -> list[Arena]:
    """What general rates are tuned on."""
    every = {one.name: one for one in training()}
    names = KNOWN.get(optimizer, KNOWN["adam"])[: 1 if quick else None]
    few = [replace(every[name], optimizer=optimizer, base=ANCHORS[optimizer]) for name in names]
    return [
        Arena(
            name=f"{optimizer}-{one.name}",
            says=f"{one.name}, driven by {optimizer}",
            problem=_quickly(one, quick),
            judging=(),
            tuning=_seeds(1000, 2),
            grid=GRID,
            rivals=_ALL,
            together=48,
        )
        for one in few
    ]


def _judged(axis: str, problem: Network, tuned_on: tuple[str, ...], quick: bool) -> Arena:
    arena = Arena(
        name=problem.name,
        says=f"{problem.name}, driven by {problem.optimizer}",
        problem=replace(_quickly(problem, quick), base=ANCHORS[problem.optimizer]),
        judging=_seeds(0, 3 if quick else 10),
        tuning=_seeds(1000, 2),
        tuned_on=tuned_on,
        searches="tuning",
        grid=GRID,
        rivals=_ALL,
        wrong=_WRONG,
        axis=axis,
        together=50,
    )
    if problem.name not in SLOW:
        return arena
    return replace(
        arena,
        problem=replace(arena.problem, steps=SLOW[problem.name]),
        judging=_seeds(0, 5),
        tuning=_seeds(1000, 2),
        tuned_on=(),
        rivals=_FEW,
        wrong=_FEW[1:2],
        together=5,
        watches=True,
    )


def _quickly(problem: Any, quick: bool) -> Any:
    return replace(problem, steps=min(problem.steps, 200)) if quick else problem


def _seeds(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(_FIRST + first, _FIRST + first + count))
