"""Trainings in several workers at once, observed and acted upon as one environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from surefoot.engine import WorkerDiedError, WorkError
from surefoot.gym.single import ACTIONS, box
from surefoot.learn.lessons import modules
from surefoot.learn.part import Answer, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surefoot.engine import Engine
    from surefoot.engine.protocol import Actor
    from surefoot.learn.lessons import Lesson


@dataclass(frozen=True)
class Helpers:
    """Workers that train while the learner decides.

    Attributes:
        engine: Where they are; it is used within its context.
        count: How many, 1 or more.
        on, tier: What each of them makes its tasks from: see `surefoot.learn.lesson`.
        retries: How often one that died is begun again in a round, 0 or more.
    """

    engine: Engine
    count: int
    on: str
    tier: str | None
    retries: int = 3

    def envs(self, lesson: Lesson, slots: Sequence[int], costs: Sequence[float]) -> SpreadVectorEnv:
        """The environments of a round.

        Args:
            lesson: That which they make of `on`.
            slots: Of each task, 0 where it does not take part.
            costs: What a slot of each task costs, in any unit; 0 where it is not known. Nothing learned depends on it.
        """
        dealt = [(place, count) for place, count in enumerate(slots) if count]
        shares = share(_expected([count * costs[place] for place, count in dealt]), self.count)
        hands = [Hand(self, [dealt[at] for at in mine]) for mine in shares]
        return SpreadVectorEnv(lesson, dealt, list(zip(hands, shares, strict=True)))

    def begin(self, dealt: Sequence[tuple[int, int]]) -> Actor:
        """A worker that has these tasks, by their places in the lesson, with so many slots each.

        Raises:
            WorkerDiedError: It did not come to life.
        """
        try:
            return self.engine.actor(Part, self.on, self.tier, list(dealt), preload=modules(self.on))
        except (OSError, EOFError) as error:
            raise WorkerDiedError(f"it could not be started: {error}") from error


def share(costs: Sequence[float], count: int) -> list[list[int]]:
    """Which pieces each of so many workers gets: the dearest first, each to whoever has least so far.

    >>> share([1.0, 5.0, 2.0, 3.0], 2)
    [[0, 1], [2, 3]]

    Args:
        costs: Of each piece, above 0.
        count: Workers, 1 or more.

    Returns:
        The numbers of the pieces of each worker that has any, in order.
    """
    mine: list[list[int]] = [[] for _ in range(count)]
    total = [0.0] * count
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        least = total.index(min(total))
        mine[least].append(piece)
        total[least] += costs[piece]
    return [sorted(pieces) for pieces in mine if pieces]


class Hand:
    """One of the workers, and all that is needed to have another in its place.

    An environment is a function of its seeds and of the actions since, so these are its checkpoint: a new worker goes through
    them, and is where the old one was, to the last bit. They are a few kilobytes, and fit every fleet, whatever it consists of
    and on whatever device; its weights would be megabytes at every decision. What it costs is the part of the round that is
    gone through again, and a learner that dies loses its round anyway.

    Args:
        helpers: What it is one of.
        dealt: The places of its tasks in the lesson, and the slots of each.
    """

    def __init__(self, helpers: Helpers, dealt: Sequence[tuple[int, int]]) -> None:
        self._helpers, self._dealt = helpers, list(dealt)
        self._deaths = 0
        self._actor: Actor | None = None
        self._seeds: list[list[int]] = []
        self._actions: list[list[NDArray[Any]]] = []

    def reset(self, seeds: list[list[int]]) -> None:
        """Have a round begun: of each task, the seeds of its slots."""
        self._seeds, self._actions = seeds, []
        self._ask("reset", seeds)

    def step(self, actions: list[NDArray[Any]]) -> None:
        """Have a decision carried out: of each task, the actions of its slots."""
        self._actions.append(actions)
        self._ask("step", actions)

    def answer(self) -> list[Answer]:
        """What came of it, in each task.

        Raises:
            WorkError: An exception was raised there, or too many workers died.
        """
        while True:
            assert self._actor is not None
            try:
                found: list[Answer] = self._actor.answer()
            except WorkerDiedError as error:
                self._replace(error)
            except WorkError as error:
                raise WorkError(str(error).partition("\n")[0]) from error  # What follows is a traceback.
            else:
                return found

    def close(self) -> None:
        """End the worker."""
        if self._actor is not None:
            self._actor.close()
            self._actor = None

    def _ask(self, method: str, given: Any) -> None:
        try:
            self._actor = self._actor or self._helpers.begin(self._dealt)
            self._actor.ask(method, given)
        except WorkerDiedError as error:
            self._replace(error)

    def _replace(self, error: WorkerDiedError) -> None:
        """Have another worker go through the round so far; what it is asked last is what the dead one was."""
        while True:
            self.close()
            self._deaths += 1
            if self._deaths > self._helpers.retries:
                often = f"an environment worker died {self._deaths} times in a round, at last"
                raise WorkError(f"{often}: {error} (is there memory enough?)") from error
            try:
                self._actor = self._helpers.begin(self._dealt)
                self._actor.ask("replay", self._seeds, self._actions)
            except WorkerDiedError as again:
                error = again
            else:
                return


class SpreadVectorEnv(VectorEnv["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[Any]"]):
    """What `surefoot.gym.TrainingVectorEnv.of_tasks` is, to the last bit, with its tasks in several workers.

    All of them train at once: each is asked before any has answered. A task is never split, since its slots are one fleet. The
    autoreset mode is "SameStep".

    Attributes:
        has_diverged: In which slots the last step made the run diverge.

    Args:
        lesson: What the tasks are of.
        dealt: The places of those that take part, and the slots of each.
        hands: The workers, each with the numbers of those of `dealt` that it has.
    """

    def __init__(self, lesson: Lesson, dealt: Sequence[tuple[int, int]], hands: Sequence[tuple[Hand, Sequence[int]]]) -> None:
        self._dealt, self._hands = list(dealt), list(hands)
        self._ends = np.cumsum([count for _, count in dealt]).tolist()
        self._seconds = [0.0] * len(dealt)
        self.num_envs = self._ends[-1]
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = box(lesson.tasks[dealt[0][0]][0]), ACTIONS
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.has_diverged = np.zeros(self.num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every slot.

        Args:
            seed: That of the first slot, the others following; or one per slot. Workers are begun again from them.
            options: None.
        """
        given = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed or ()
        seeds = [own for own in given if own is not None]
        if options or len(seeds) != len(given) or len(seeds) != self.num_envs:
            raise ValueError(f"seed must be a number or one for each of {self.num_envs} slots, without options, got {seed}")
        for hand, mine in self._hands:
            hand.reset([seeds[self._slots(at)] for at in mine])
        found = self._answers()
        return np.concatenate([each.observations for each in found]), _merged([each.infos for each in found])

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Change the rates, and train in every slot until its next decision."""
        actions = np.array(actions)  # A copy: it is what a worker is begun again from.
        for hand, mine in self._hands:
            hand.step([actions[self._slots(at)] for at in mine])
        found = self._answers()
        every = [each.infos for each in found]
        if any("final_obs" in infos for infos in every):
            every = [infos if "final_obs" in infos else infos | _none_over(infos) for infos in every]
        columns = [np.concatenate(column) for column in zip(*(each[:4] for each in found), strict=True)]
        return (*columns, _merged(every))  # type: ignore[return-value]

    @property
    def costs(self) -> dict[int, float]:
        """Seconds that a slot of each task took, by its place."""
        return {place: took / count for (place, count), took in zip(self._dealt, self._seconds, strict=True)}

    def close_extras(self, **_: Any) -> None:
        """End the workers."""
        for hand, _mine in self._hands:
            hand.close()

    def _slots(self, at: int) -> slice:
        return slice(self._ends[at] - self._dealt[at][1], self._ends[at])

    def _answers(self) -> list[Answer]:
        """What became of each task, in the order of the slots."""
        found: dict[int, Answer] = {}
        for hand, mine in self._hands:
            found |= dict(zip(mine, hand.answer(), strict=True))
        answers = [found[at] for at in range(len(self._dealt))]
        self.has_diverged = np.concatenate([each.has_diverged for each in answers])
        self._seconds = [each.seconds for each in answers]
        return answers


def _merged(every: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The information on each task's slots, one after another."""
    first = every[0]
    return {
        name: _merged([infos[name] for infos in every])
        if isinstance(first[name], dict)
        else np.concatenate([infos[name] for infos in every])
        for name in first
    }


def _none_over(infos: dict[str, Any]) -> dict[str, Any]:
    """What a task in which no episode ended says of the ends when others have some."""
    where = np.zeros(len(infos["loss"]), bool)
    final = {name: where if name.startswith("_") else np.where(where, value, 0) for name, value in infos.items()}
    return {"final_obs": np.full(len(where), None, object), "_final_obs": where, "final_info": final, "_final_info": where}


def _expected(costs: Sequence[float]) -> list[float]:
    """What tasks cost, those of which nothing is known as much as the mean of the others."""
    known = [cost for cost in costs if cost > 0.0]
    mean = sum(known) / len(known) if known else 1.0
    return [cost if cost > 0.0 else mean for cost in costs]
