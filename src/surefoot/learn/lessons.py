"""What policies are learned on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from surefoot import checks
from surefoot.control import Control
from surefoot.episodes import Task
from surefoot.features import TIERS, Features
from surefoot.fleet import fleet
from surefoot.learn import own
from surefoot.learn.settings import Settings
from surefoot.nmf import Factorisation, Matrices
from surefoot.spec import to_dict
from surefoot.timed import Constant, WarmupStableDecay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.networks import Network
    from surefoot.problems import Problem

NAMES = {
    "nmf": "nonnegative factorisations of random matrices, rates in units of the stability bound",
    "networks-loss": "small networks, seen by their losses alone",
    "networks-gradient": "small networks, seen by their losses and two numbers of every gradient",
    "networks": "one of the two before, according to --tier",
}
"""Lessons by name, and what they are about."""

GUARDS: dict[str, Any] = {
    "first": (1,) * 8 + (2,) * 4 + (5,) * 2,
    "rise": 2.0,
    "cut": 2.0,
    "alarm": 8.0,
    "rescue": 4.0,
    "warmup": 16,
    "begin": 2.0**-8,
}
"""What keeps a learned policy from harm, in every lesson; `surefoot.control.Control` has what each is.

A decision cuts no deeper than it raises: while it is learned its actions are noisy, and noise should lead nowhere by itself.
Every rate is met from below, so that one that is far too high shows it before it does harm.
"""


_CHEAP = 12  # Trainings of a network that costs little.
_LONGEST = 3000  # Steps to which an episode is lengthened.


@dataclass(frozen=True)
class Lesson:
    """Tasks to learn on, each with its number of slots.

    Attributes:
        name: What it is called.
        tasks: The tasks, one or more, and how many trainings of each run side by side.
        usual: How a policy is learned on them where nobody says otherwise.
        source: Of a lesson from a file, the checksum of that file.

    Raises:
        ValueError: There are no tasks or no slots, or the tasks differ in what one policy has to have in common: what is seen,
            and what an action or an alarm does.
    """

    name: str
    tasks: tuple[tuple[Task, int], ...]
    usual: Settings = Settings()  # noqa: RUF009 - it is frozen
    source: str = ""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError(f"a lesson must have one task or more, {self.name} has none")
        for task, slots in self.tasks:
            checks.whole("slots", slots, low=1)
            if _common(task) != _common(self.tasks[0][0]):
                raise ValueError(
                    "all tasks of a lesson must agree in features, first, rise, cut, alarm, rescue, warmup, begin and settle, "
                    f"since one policy has them: {self.tasks[0][0].fleet.name} has {_common(self.tasks[0][0])}, "
                    f"{task.fleet.name} {_common(task)}"
                )

    @property
    def slots(self) -> int:
        """How many trainings run side by side."""
        return sum(slots for _, slots in self.tasks)

    @property
    def decisions(self) -> int:
        """Decisions of the longest episode that no alarm interrupts."""
        return max(decisions(task) for task, _ in self.tasks)

    @property
    def control(self) -> Control:
        """What a policy says of itself, which is that of the first task whose budget is known, if there is one."""
        every = [task.control for task, _ in self.tasks]
        return next((control for control in every if control.steps is not None), every[0])

    def described(self) -> list[dict[str, Any]]:
        """The tasks as plain data, all that a training depends on."""
        return [_described(task) | {"slots": slots} for task, slots in self.tasks]


def decisions(task: Task) -> int:
    """Decisions of an episode of a task that no alarm interrupts.

    >>> from surefoot.tasks import random_factorisations, tasks
    >>> (task,) = tasks([random_factorisations()], steps=500, window=10, first=(1, 2))
    >>> decisions(task)
    52
    """
    left, made = task.steps, 0
    for length in task.control.first:
        if left > 0:
            left, made = left - length, made + 1
    return made + max(ceil(left / task.control.features.window), 0)


def lesson(on: str, *, tier: str | None = None) -> Lesson:
    """The lesson of a name, or one made of what a file of yours says.

    Args:
        on: One of `NAMES`; or `my_problem.py:Problem`, a file and the name of what it defines: a problem, a fleet, a `Task` or
            a `Lesson`; a list of these; or a class or function that returns them when it is called without arguments.
        tier: What is seen, "loss" or "gradient"; each lesson's own if None.

    Raises:
        ValueError: There is no such lesson, file or name, or what is there is no problem.
    """
    if tier is not None:
        checks.one_of("tier", tier, TIERS)
    if on == "nmf":
        return nmf(tier or "gradient")
    if on in ("networks", "networks-loss", "networks-gradient"):
        _, _, named = on.partition("-")
        if tier and named and tier != named:
            raise ValueError(f"{on} is learned from the tier {named!r}, got {tier!r} (leave out --tier, or learn on networks)")
        return networks(named or tier or "loss")
    if ":" not in on:
        raise ValueError(f"no lesson is called {on!r}; choose from {', '.join(NAMES)}, or name a file as my_problem.py:Problem")
    found, source = own.load(on)
    if len(found) == 1 and isinstance(found[0], Lesson):
        return replace(found[0], source=source)
    return Lesson(on, tuple(dealt for each in found for dealt in _dealt(each, tier or "loss", on)), source=source)


def modules(on: str) -> list[str]:
    """What those import that train on a lesson, best once for many of them.

    That is not PyTorch where nothing is trained with it: to import it takes as long as a short round.

    >>> modules("nmf")
    ['surefoot.learn.part']
    """
    return ["surefoot.learn.preloaded" if on.startswith("networks") else "surefoot.learn.part"]


def nmf(tier: str = "gradient") -> Lesson:
    """Random factorisations of several sizes, batches, noises and budgets, in units of the stability bound.

    Rates start anywhere from 1/5,000 to 40 times half the bound, which clips every step, half of them below a fiftieth of it.
    What counts is the relative loss of the matrix itself. Under noise of a fixed size all rows are in the batch. Inside the
    bound a loss that jumps is noise, and nothing to be alarmed at.
    """
    oracle = {"ceiling": 0.5, "cap": 0.5}  # Under noise of a fixed size both are needed.
    made: list[tuple[Matrices, dict[str, Any], bool]] = [
        (_matrices(60, 40), {"rank": 6, "batch_size": 8, "steps": 500}, True),
        (_matrices(100, 60), {"rank": 8, "batch_size": 16, "steps": 400}, False),
        (_matrices(40, 80), {"rank": 4, "batch_size": 8, "steps": 300}, True),
        (_matrices(60, 50), {"rank": 6, "batch_size": None, "steps": 300, "noise": 0.1, **oracle}, True),
        (_matrices(50, 60), {"rank": 5, "batch_size": None, "steps": 200, "noise": 0.5, **oracle}, True),
        (_matrices(60, 50), {"rank": 6, "batch_size": None, "steps": 300, "noise": 2.0, **oracle}, True),
    ]
    tasks = [
        (
            _task(
                _factorisation(number, tier, draw=draw, **rest),
                tier,
                budget=budget,
                start=(2e-4, 0.02, 40.0),
                alarm=inf,
            ),
            64,
        )
        for number, (draw, rest, budget) in enumerate(made)
    ]
    return Lesson(
        "nmf",
        tuple(tasks),
        Settings(rounds=80, checks=8, validation=32, moved=0.3),
    )


def networks(tier: str = "loss") -> Lesson:
    """The networks of `surefoot.zoo.training`, from rates over four decades and a half, half of them too high.

    Of four neighbours in the list, which are of a kind, one does not know its budget, one has its own length, one is four times
    as long and one half as long. What is learned at one length only goes wrong at others: a drift too slow to harm in 60
    decisions is ruin in 600.
    """
    from surefoot import zoo

    tasks = []
    for place, problem in enumerate(zoo.training()):
        steps = _length(problem, (1.0, 1.0, 4.0, 0.5)[place % 4])
        task = _task(problem, tier, budget=place % 4 != 0, start=(1e-3, 1.0, 30.0), steps=steps, settle=16)
        tasks.append((task, _slots(problem.name)))
    return Lesson(
        f"networks-{tier}",
        tuple(tasks),
        Settings(
            rounds=16,
            together=8,
            rollout=100,
            rate=(3e-3, 2e-4),
            minibatches=16,
            discount=0.995,
            deviation=-1.4,
            checks=2,
        ),
    )


def _length(problem: Network, multiple: float) -> int:
    """So many times the problem's own steps, but within reason."""
    if _slots(problem.name) < _CHEAP:
        multiple = min(multiple, 1.0)
    longest = max(problem.steps, _LONGEST)
    return min(int(multiple * problem.steps), longest)


def _slots(name: str) -> int:
    """How many trainings of a network there are: fewer where one costs more."""
    dear = {"convolutions": 4, "rows": 4, "transformer": 4, "normed": 7}
    return next((slots for word, slots in dear.items() if word in name), _CHEAP)


def _factorisation(number: int, tier: str, **settings: Any) -> Factorisation:
    fixed: dict[str, Any] = {"rates": "clipped", "eigenvalues": "collatz", "measure": "matrix"}
    return Factorisation(f"nmf-{number}", gradients=tier == "gradient", **fixed, **settings)


def _task(
    problem: Problem[Any],
    tier: str,
    *,
    budget: bool,
    start: tuple[float, ...],
    steps: int | None = None,
    **guards: Any,
) -> Task:
    steps = problem.steps if steps is None else steps
    control = Control(
        Features(tier=tier),
        schedule=WarmupStableDecay(steps, warmup=0.0) if budget else Constant(),
        steps=steps if budget else None,
        **GUARDS | guards,
    )
    return Task(_fleet(problem, tier), control, steps, start, "held-out")


def _fleet(problem: Any, tier: str) -> Any:
    """The problem's fleet, which measures what has to be seen if it can."""
    if tier != "gradient" or isinstance(problem, Factorisation):  # Neither needs PyTorch, which takes seconds to import.
        return fleet(problem)
    from surefoot.networks import Network

    return problem.fleet(gradients=True) if isinstance(problem, Network) else fleet(problem)


def _dealt(found: Any, tier: str, on: str) -> Sequence[tuple[Task, int]]:
    """The tasks of what a file of a user's defines."""
    if isinstance(found, Lesson):
        return found.tasks
    if isinstance(found, Task):
        return [(found, own.SLOTS)]
    if not own.is_problem(found):
        raise ValueError(f"{on} must be a problem, a fleet, a Task or a Lesson, a list of these, or a function, got {found!r}")
    return [(_task(found, tier, budget=budget, start=(1e-3, 10.0)), own.SLOTS // 2) for budget in (True, False)]


def _matrices(rows: int, columns: int) -> Matrices:
    return Matrices(rows=rows, columns=columns, rank=(4, 8), scale=(0.1, 10.0), noise=(0.01, 0.3), density=(0.3, 1.0))


def _common(task: Task) -> tuple[Any, ...]:
    control = task.control
    return (
        control.features,
        control.first,
        control.rise,
        control.cut,
        control.alarm,
        control.rescue,
        control.warmup,
        control.begin,
        control.settle,
    )


def _described(task: Task) -> dict[str, Any]:
    """A task as plain data; where functions lie in memory is no part of what they do."""
    of_fleet = {name: getattr(task.fleet, name) for name in ("name", "optimizer", "base", "steps", "revision")}
    said = re.sub(r" at 0x[0-9a-f]+", "", repr(task.fleet))
    control = repr(replace(task.control, schedule=Constant())) + repr(to_dict(task.control.schedule))
    rest = {"start": list(task.start), "reward": task.reward, "worst": task.worst, "steps": task.steps}
    return {"fleet": of_fleet, "is": said, "control": control, **rest}
