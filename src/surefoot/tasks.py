"""What episodes can be about: distributions of problems, and everything else that an environment is told."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from surefoot import checks
from surefoot.control import Control
from surefoot.episodes import Task
from surefoot.features import Features
from surefoot.fleet import fleet
from surefoot.nmf import Factorisation, Matrices
from surefoot.timed import Constant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surefoot.policy import Policy
    from surefoot.problems import Problem


def tasks(
    problems: Sequence[Problem[Any]],
    *,
    steps: int | None = None,
    budget: bool = True,
    window: int = 10,
    first: Sequence[int] = (1, 2),
    tier: str = "loss",
    bound: bool = False,
    schedule: Policy[Any] | Callable[..., Policy[Any]] | None = None,
    rise: float = 2.0,
    cut: float = 2.0,
    alarm: float = inf,
    rescue: float = 4.0,
    warmup: int = 0,
    begin: float = 2.0**-8,
    settle: int | None = None,
    start: tuple[float, ...] = (0.01, 10.0),
    reward: str = "training",
    worst: float = 100.0,
) -> list[Task]:
    """A task for each of the problems, all with the same settings.

    >>> from surefoot import WarmupStableDecay
    >>> from surefoot.catalogue import problem
    >>> (task,) = tasks([problem("wine-mlp")], schedule=WarmupStableDecay)
    >>> task.steps, task.control.schedule
    (300, WarmupStableDecay(steps=300, warmup=0.05, decay=0.2, start=0.01, end=0.0))

    Args:
        problems: What is trained, one or more. Where a run draws its own instance from its seed, as a `Factorisation` of
            `Matrices` does, this is a distribution in itself.
        steps: Length of an episode in optimizer steps, 1 or more; each problem's own if None.
        budget: Whether that length is known, and the part of it that is used up in view.
        window: Optimizer steps from one decision to the next, 1 or more.
        first: Lengths of the first windows where they differ.
        tier: What is in view: "loss", or "gradient" for problems that measure `alignment` and `relative_step`: factorisations
            do, and networks if asked to, `network(..., gradients=True)`.
        bound: Whether the rate over the stability bound is in view as well, for problems that measure `bound`.
        schedule: What actions correct: a policy, or a class of policies that is called with `steps`; None for a constant rate.
        rise: The largest factor of one decision, above 1.
        cut: The largest divisor of one decision, above 1.
        alarm: The multiple of the usual loss above which the scale is divided by `rescue` at once: see `Control`.
        rescue: That divisor, above 1.
        warmup: Steps over which the scale is led up to the schedule's.
        begin: The fraction of it at which that begins.
        settle: How many decisions have their full weight; all if None.
        start: Between which multiples of a problem's base rate an episode's own is drawn: see `surefoot.episodes.Task`.
        reward: What is to fall, "training", "held-out" or "final": see `surefoot.episodes.Task`.
        worst: The multiple of its first loss from which on a run counts as diverged, above 1.
    """
    if not problems:
        raise ValueError("problems must be one problem or more, got none")
    made = []
    for problem in problems:
        length = problem.steps if steps is None else steps
        checks.whole("steps", length, low=1)
        control = Control(
            Features(window, tier, bound),
            schedule=_corrected(schedule, length),
            steps=length if budget else None,
            first=tuple(first),
            rise=rise,
            cut=cut,
            alarm=alarm,
            rescue=rescue,
            warmup=warmup,
            begin=begin,
            settle=settle,
        )
        made.append(Task(fleet(problem), control, length, start, reward, worst))
    return made


def random_factorisations(**settings: Any) -> Factorisation:
    """Factorisations of rank 6 from batches of 8 rows, each run of a random 60 x 40 matrix of its own.

    The mean of the entries is between 0.1 and 10, the noise between 1% and 30%, the density between 0.3 and 1.

    Args:
        **settings: What shall differ, such as `draw=Matrices(rows=200)`, `rank` or `rates="plain"`: see `Factorisation`.
    """
    spread = Matrices(rows=60, columns=40, rank=(6, 6), scale=(0.1, 10.0), noise=(0.01, 0.3), density=(0.3, 1.0))
    defaults: dict[str, Any] = {"name": "random-nmf", "draw": spread, "rank": 6, "batch_size": 8, "steps": 500}
    return Factorisation(**defaults | settings)


def networks(
    names: Sequence[str] = ("digits-mlp",), optimizers: Sequence[str] = ("sgd",), **overrides: Any
) -> list[Problem[Any]]:
    """Every network of the catalogue of these names, with each of these optimizers.

    >>> [problem.optimizer for problem in networks(["wine-mlp"], ["sgd", "adam"])]
    ['sgd', 'adam']

    Args:
        names: Of `surefoot.recipes.RECIPES`.
        optimizers: Those to drive.
        **overrides: Fields of `surefoot.networks.Network` that shall differ, such as `batch_size`.
    """
    from surefoot.networks import network

    return [network(name, optimizer, **overrides) for name in names for optimizer in optimizers]


def _corrected(schedule: Any, steps: int) -> Policy[Any]:
    if schedule is None:
        return Constant()
    made: Policy[Any] = schedule(steps=steps) if callable(schedule) else schedule
    return made
