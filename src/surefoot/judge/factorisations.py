"""Arenas of factorisations: unseen matrices, a larger size, noisy oracles, and very many matrices inside the bound."""

from __future__ import annotations

from dataclasses import replace

from surefoot.judge.arenas import MULTIPLES, Arena
from surefoot.judge.entrants import CLOSED, SCHEDULES, Contestant
from surefoot.nmf import Factorisation, Matrices
from surefoot.tasks import random_factorisations

NOISES = (0.1, 0.5, 2.0)
_PLAIN = tuple(Contestant(entry) for entry in SCHEDULES + CLOSED)
_BOUNDED = tuple(Contestant(entry, limits) for limits in ("clipped", "bound") for entry in ("constant", "wsd"))
_LIMITED = tuple(Contestant(entry, limits) for limits in ("clipped", "bound") for entry in SCHEDULES)
_FIRST = 900_000_000
"""Far from the seeds that anything is learned from."""


def arenas(*, quick: bool = False) -> list[Arena]:
    """All of them, or small ones for a quick look that claims nothing.

    Rates count the stability edge of the first step. Those of judged policies are clipped to the edge of now, as they are where
    policies are learned; nothing limits those of rivals (`"plain"`), but where limits are named.
    """
    judging, tuning = (12, 4) if quick else (96, 24)
    unseen = Arena(
        name="unseen",
        says="unseen matrices of 60 x 40, rank 6, batches of 8 rows",
        problem=_quickly(random_factorisations(eigenvalues="collatz"), quick),
        judging=_seeds(0, judging),
        tuning=_seeds(10_000, tuning),
        measure="relative loss",
        searches="judging",
        grid=(-4, 3) if quick else (-6, 4),
        fineness=2 if quick else 4,
        rivals=_PLAIN + _BOUNDED,
        limits=("clipped",),
    )
    large = replace(
        unseen,
        name="large",
        says="unseen matrices of 200 x 100, rank 10, batches of 8 rows; rates tuned on 60 x 40",
        problem=replace(unseen.problem, rank=10, draw=replace(unseen.problem.draw, rows=200, columns=100, rank=(10, 10))),
        judging=_seeds(20_000, 4 if quick else 48),
        tuned_on=("unseen",),
        axis="size",
        together=96,
    )
    oracles = [_oracle(noise, quick) for noise in NOISES]
    return [unseen, *([] if quick else [large]), *oracles, _inside(unseen, quick)]


def _oracle(noise: float, quick: bool) -> Arena:
    problem = Factorisation(
        f"noise-{noise:g}",
        draw=Matrices(rows=60, columns=50),
        rank=6,
        batch_size=None,
        noise=noise,
        steps=100 if quick else 300,
        eigenvalues="collatz",
        ceiling=0.5,
        cap=0.5,
    )
    return Arena(
        name=f"noise-{noise:g}",
        says=f"60 x 50, rank 6, all rows, noise of {noise:g} times the first gradient",
        problem=problem,
        judging=_seeds(30_000, 8 if quick else 40),
        tuning=_seeds(40_000, 4 if quick else 12),
        measure="relative error",
        grid=(-3, 2) if quick else (-6, 3),
        fineness=2 if quick else 4,
        rivals=_PLAIN[: len(SCHEDULES)] + _LIMITED,
        limits=("clipped",),
        starts=(1.0,) if quick else MULTIPLES,
        axis="noise",
    )


def _inside(unseen: Arena, quick: bool) -> Arena:
    draw = Matrices(rows=60, columns=40, rank=(3, 9), scale=(0.01, 100.0), noise=(0.0, 0.3), density=(0.3, 1.0))
    return replace(
        unseen,
        name="inside",
        says="60 x 40, rank 3 to 9, other scales; the rate clipped to the bound",
        problem=replace(unseen.problem, draw=draw, steps=100 if quick else 200),
        judging=_seeds(50_000, 200 if quick else 10_000),
        tuning=(),
        tuned_on=("unseen",),
        searches="",
        rivals=(),
        limits=("clipped",),
        starts=(1.0, 10.0, 100.0),
        together=600,
    )


def _quickly(problem: Factorisation, quick: bool) -> Factorisation:
    return replace(problem, steps=150) if quick else problem


def _seeds(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(_FIRST + first, _FIRST + first + count))
