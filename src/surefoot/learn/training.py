"""One training of a policy, round by round, from one seed."""

from __future__ import annotations

from contextlib import closing
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import __version__, checks
from surefoot.learn.keep import KeepError, Kept, parted
from surefoot.learn.score import reference, score
from surefoot.learn.selection import select, turn
from surefoot.perceptron import Perceptron

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from surefoot.learn.lessons import Lesson
    from surefoot.learn.ppo import Agent, Round
    from surefoot.learn.settings import Settings
    from surefoot.learn.spread import Helpers

PATIENT = 0.25
"""Share of the rounds before which slots are not moved: what a policy is behind in then, it has not looked at yet."""


class Record(NamedTuple):
    """Where a training stands, as it is told after every round.

    Attributes:
        seed: Its seed.
        done: Rounds done.
        of: How many there will be.
        curve: What each round came to, as `surefoot.learn.ppo.Round` names it, with the `slots` of each task in it; and after
            those at which the policy was measured, `check`, as `surefoot.learn.score.Score` does.
        best: Of the best check so far, `round` and `score`; empty before the first.
        seconds: What it took, in all.
        transitions: Decisions that were learned from, in all.
    """

    seed: int
    done: int
    of: int
    curve: list[dict[str, Any]]
    best: dict[str, Any]
    seconds: float
    transitions: int


class Training(NamedTuple):
    """What came of a training.

    Attributes:
        policy: The network that did best when it was measured; as it is if it never was.
        record: How it came about.
    """

    policy: Perceptron
    record: Record


def train(
    lesson: Lesson,
    settings: Settings,
    seed: int,
    folder: str | Path | None = None,
    *,
    on_round: Callable[[Record], bool] = lambda _record: True,
) -> Training:
    """Learn a policy, or go on learning it.

    The same lesson, settings and seed give the same policy to the last bit, be it in one go or in many. With a folder, each
    round is kept there when it is done, so that killing the process costs one round at most.

    Args:
        lesson: What to learn on.
        settings: How to learn.
        seed: Of all that is random, 0 or more.
        folder: Where the training is kept, made if it is not there; nowhere if None.
        on_round: Called after each round; the training stops there when it returns False, and can go on later.

    Raises:
        KeepError: The folder holds another training, or a damaged one.
        OSError: It cannot be written to.
    """
    checks.whole("seed", seed, low=0)
    kept = kept_in(lesson, settings, seed, None if folder is None else Path(folder))
    while kept.rounds < settings.rounds:
        kept = after_round(lesson, settings, seed, kept)
        if folder is not None:
            kept.write(Path(folder))
        if not on_round(record_of(seed, settings, kept)):
            break
    return Training(_Course(lesson, settings, seed, kept).policy, record_of(seed, settings, kept))


def after_round(lesson: Lesson, settings: Settings, seed: int, kept: Kept, helpers: Helpers | None = None) -> Kept:
    """What is kept after one more round: a function of what is kept before it, wherever it is called.

    Args:
        lesson: What to learn on.
        settings: How to learn.
        seed: Of all that is random, 0 or more.
        kept: What was kept of rounds before, which stays as it is.
        helpers: Who trains while the learner decides; it does so itself if None.

    Raises:
        KeepError: What was kept is of another training.
    """
    if difference := parted(identity(lesson, settings, seed), kept.identity):
        raise KeepError(f"this is another training than the one to go on with: {difference} (is it the same file everywhere?)")
    course = _Course(lesson, settings, seed, deepcopy(kept))
    course.advance(helpers)
    return course.kept


def identity(lesson: Lesson, settings: Settings, seed: int) -> dict[str, Any]:
    """All that the outcome of a training depends on, but for the machine and the versions of other packages."""
    said = {"on": lesson.name, "source": lesson.source, "tasks": lesson.described()}
    return {"surefoot": __version__, "seed": seed, "settings": asdict(settings), **said}


def standing(lesson: Lesson, settings: Settings, seed: int, folder: Path) -> Record | None:
    """Where the training in a folder stands; None if there is none.

    Raises:
        KeepError: The folder holds another training, or a damaged one.
    """
    kept = kept_in(lesson, settings, seed, folder) if folder.is_dir() else None
    return record_of(seed, settings, kept) if kept and kept.rounds else None


def policy_in(lesson: Lesson, settings: Settings, seed: int, folder: Path) -> Perceptron:
    """The policy of the best check of the training in a folder.

    Raises:
        KeepError: The folder holds another training, a damaged one, or none that was measured yet.
    """
    kept = kept_in(lesson, settings, seed, folder)
    if not kept.best:
        raise KeepError(f"the training in {folder} was not measured yet; go on with it")
    return _best(kept, settings)


def kept_in(lesson: Lesson, settings: Settings, seed: int, folder: Path | None) -> Kept:
    """What is kept in a folder, which is made if it is not there; what a training begins with if nothing is.

    Raises:
        KeepError: The folder holds another training, or a damaged one.
        OSError: It cannot be made.
    """
    mine = identity(lesson, settings, seed)
    kept = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = Kept.read(folder)
        if kept is not None and (difference := parted(mine, kept.identity)):
            raise KeepError(f"{folder} holds another training: {difference}; name another folder, or remove it to begin again")
    return kept or Kept(mine, slots=[slots for _, slots in lesson.tasks])


class _Course:
    """A round on its way: the learner in memory, beside what is kept."""

    def __init__(self, lesson: Lesson, settings: Settings, seed: int, kept: Kept) -> None:
        from surefoot.learn.ppo import Agent

        self.lesson, self.settings, self.seed, self.kept = lesson, settings, seed, kept
        self.tasks = [task for task, _ in lesson.tasks]
        self.agent: Agent = Agent(lesson.tasks, lesson.decisions, settings, seed)
        if kept.rounds:
            self.agent.arrays = kept.arrays

    def advance(self, helpers: Helpers | None) -> None:
        """One round, and a check if one is due."""
        kept, began = self.kept, perf_counter()
        slots = turn(kept.slots, self.settings.together, self.seed, kept.rounds)
        found = self._learn(slots, helpers)
        kept.rounds += 1
        line: dict[str, Any] = {"round": kept.rounds, "slots": slots, **found._asdict()}
        kept.arrays = {name: array for name, array in kept.arrays.items() if name.startswith("best.")} | self.agent.arrays
        if self.settings.is_check(kept.rounds):
            line["check"] = self._check()
        kept.curve.append(line)
        kept.transitions += found.transitions
        kept.seconds = round(kept.seconds + perf_counter() - began, 3)

    def _learn(self, slots: list[int], helpers: Helpers | None) -> Round:
        """Collect and learn, here or with helpers."""
        kept, dealt = self.kept, [(task, count) for task, count in zip(self.tasks, slots, strict=True) if count]
        if helpers is None:
            return self.agent.learn(dealt, kept.rounds)
        costs = kept.costs or [0.0] * len(slots)
        with closing(helpers.envs(self.lesson, slots, costs)) as envs:
            found = self.agent.learn(dealt, kept.rounds, envs)
            kept.costs = [envs.costs.get(place, cost) for place, cost in enumerate(costs)]
        return found

    def _check(self) -> dict[str, Any]:
        """Measure the policy, keep it if it is the best so far, and move slots to where it is behind."""
        kept, policy = self.kept, self.agent.perceptron
        if not kept.references:
            kept.references = reference(self.tasks, self.settings.validation)
        measured = score(self.tasks, kept.references, policy)
        if not kept.best or measured.mean < kept.best["score"]:
            kept.best = {"round": kept.rounds, "score": measured.mean}
            kept.arrays |= _of_policy(policy)
        if kept.rounds >= PATIENT * self.settings.rounds:
            kept.slots = select([slots for _, slots in self.lesson.tasks], measured.by_task, self.settings.moved)
        return measured._asdict()

    @property
    def policy(self) -> Perceptron:
        """That of the best check."""
        return _best(self.kept, self.settings) if self.kept.best else self.agent.perceptron


def _best(kept: Kept, settings: Settings) -> Perceptron:
    layers = range(len(settings.hidden) + 1)
    return Perceptron(tuple((kept.arrays[f"best.{at}.weight"], kept.arrays[f"best.{at}.bias"]) for at in layers))


def _of_policy(policy: Perceptron) -> dict[str, NDArray[np.float32]]:
    return {
        f"best.{at}.{part}": array
        for at, layer in enumerate(policy.layers)
        for part, array in zip(("weight", "bias"), layer, strict=True)
    }


def record_of(seed: int, settings: Settings, kept: Kept) -> Record:
    """Where a training stands of which this is kept."""
    return Record(seed, kept.rounds, settings.rounds, kept.curve, kept.best, kept.seconds, kept.transitions)
