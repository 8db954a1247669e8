"""What an environment worker does: it trains the slots of some tasks, and tells of each."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot.gym import TrainingVectorEnv
from surefoot.learn.lessons import lesson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Answer(NamedTuple):
    """What became of a task's slots: see `gymnasium.vector.VectorEnv.step` for all but the last two.

    Attributes:
        seconds: What they took since the worker began, wall-clock time.
        has_diverged: In which of them the last step made the run diverge.
    """

    observations: NDArray[Any]
    rewards: Any
    terminated: Any
    truncated: Any
    infos: dict[str, Any]
    has_diverged: NDArray[Any]
    seconds: float


class Part:
    """The slots of some tasks of a lesson, each task in an environment of its own.

    Args:
        on, tier: The lesson: see `surefoot.learn.lesson`.
        dealt: The places of the tasks in it, and the slots of each.
    """

    def __init__(self, on: str, tier: str | None, dealt: Sequence[tuple[int, int]]) -> None:
        tasks = [task for task, _ in lesson(on, tier=tier).tasks]
        self._envs = [TrainingVectorEnv.of_tasks([(tasks[place], count)], autoreset_mode="SameStep") for place, count in dealt]
        self._seconds = [0.0] * len(dealt)

    def reset(self, seeds: Sequence[Sequence[int]]) -> list[Answer]:
        """Begin an episode in every slot: of each task, their seeds."""
        answers = []
        for at, (envs, own) in enumerate(zip(self._envs, seeds, strict=True)):
            began = perf_counter()
            observations, infos = envs.reset(seed=own)
            self._seconds[at] += perf_counter() - began
            answers.append(Answer(observations, None, None, None, infos, envs.has_diverged, self._seconds[at]))
        return answers

    def step(self, actions: Sequence[Any]) -> list[Answer]:
        """One decision in every slot: of each task, their actions."""
        answers = []
        for at, (envs, own) in enumerate(zip(self._envs, actions, strict=True)):
            began = perf_counter()
            found = envs.step(own)
            self._seconds[at] += perf_counter() - began
            answers.append(Answer(*found, envs.has_diverged, self._seconds[at]))
        return answers

    def replay(self, seeds: Sequence[Sequence[int]], actions: Sequence[Sequence[Any]]) -> list[Answer]:
        """All that another worker went through since its last `reset`, and what came of the last of it."""
        answers = self.reset(seeds)
        for each in actions:
            answers = self.step(each)
        return answers
