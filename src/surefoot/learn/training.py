"""One training of a policy, round by round, from one seed."""

from __future__ import annotations

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
    from surefoot.learn.ppo import Agent
    from surefoot.learn.settings import Settings

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
    kept = _kept(lesson, settings, seed, None if folder is None else Path(folder))
    course = _Course(lesson, settings, seed, kept)
    while kept.rounds < settings.rounds:
        course.advance()
        if folder is not None:
            kept.write(Path(folder))
        if not on_round(course.record):
            break
    return Training(course.policy, course.record)


def identity(lesson: Lesson, settings: Settings, seed: int) -> dict[str, Any]:
    """All that the outcome of a training depends on, but for the machine and the versions of other packages."""
    said = {"on": lesson.name, "source": lesson.source, "tasks": lesson.described()}
    return {"surefoot": __version__, "seed": seed, "settings": asdict(settings), **said}


def standing(lesson: Lesson, settings: Settings, seed: int, folder: Path) -> Record | None:
    """Where the training in a folder stands; None if there is none.

    Raises:
        KeepError: The folder holds another training, or a damaged one.
    """
    kept = _kept(lesson, settings, seed, folder) if folder.is_dir() else None
    return _record(seed, settings, kept) if kept and kept.rounds else None


def policy_in(lesson: Lesson, settings: Settings, seed: int, folder: Path) -> Perceptron:
    """The policy of the best check of the training in a folder.

    Raises:
        KeepError: The folder holds another training, a damaged one, or none that was measured yet.
    """
    kept = _kept(lesson, settings, seed, folder)
    if not kept.best:
        raise KeepError(f"the training in {folder} was not measured yet; go on with it")
    return _best(kept, settings)


def _kept(lesson: Lesson, settings: Settings, seed: int, folder: Path | None) -> Kept:
    mine = identity(lesson, settings, seed)
    kept = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = Kept.read(folder)
        if kept is not None and (difference := parted(mine, kept.identity)):
            raise KeepError(f"{folder} holds another training: {difference}; name another folder, or remove it to begin again")
    return kept or Kept(mine, slots=[slots for _, slots in lesson.tasks])


class _Course:
    """A training on its way: what of it is in memory, beside what is kept."""

    def __init__(self, lesson: Lesson, settings: Settings, seed: int, kept: Kept) -> None:
        from surefoot.learn.ppo import Agent

        self.lesson, self.settings, self.seed, self.kept = lesson, settings, seed, kept
        self.tasks = [task for task, _ in lesson.tasks]
        self.agent: Agent = Agent(lesson.tasks, lesson.decisions, settings, seed)
        if kept.rounds:
            self.agent.arrays = kept.arrays
        else:
            kept.arrays = dict(self.agent.arrays)

    def advance(self) -> None:
        """One round, and a check if one is due."""
        kept, began = self.kept, perf_counter()
        slots = turn(kept.slots, self.settings.together, self.seed, kept.rounds)
        dealt = [(task, count) for task, count in zip(self.tasks, slots, strict=True) if count]
        found = self.agent.learn(dealt, kept.rounds)
        kept.rounds += 1
        line: dict[str, Any] = {"round": kept.rounds, "slots": slots, **found._asdict()}
        kept.arrays = {name: array for name, array in kept.arrays.items() if name.startswith("best.")} | self.agent.arrays
        if self.settings.is_check(kept.rounds):
            line["check"] = self._check()
        kept.curve.append(line)
        kept.transitions += found.transitions
        kept.seconds = round(kept.seconds + perf_counter() - began, 3)

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

    @property
    def record(self) -> Record:
        """Where it stands."""
        return _record(self.seed, self.settings, self.kept)


def _best(kept: Kept, settings: Settings) -> Perceptron:
    layers = range(len(settings.hidden) + 1)
    return Perceptron(tuple((kept.arrays[f"best.{at}.weight"], kept.arrays[f"best.{at}.bias"]) for at in layers))


def _of_policy(policy: Perceptron) -> dict[str, NDArray[np.float32]]:
    return {
        f"best.{at}.{part}": array
        for at, layer in enumerate(policy.layers)
        for part, array in zip(("weight", "bias"), layer, strict=True)
    }


def _record(seed: int, settings: Settings, kept: Kept) -> Record:
    return Record(seed, kept.rounds, settings.rounds, kept.curve, kept.best, kept.seconds, kept.transitions)
