"""Many trainings as one Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from surefoot import checks
from surefoot.episodes import Episodes
from surefoot.gym.single import ACTIONS, SEEDS, as_actions, box, ends_of
from surefoot.tasks import tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.episodes import Task
    from surefoot.problems import Problem


class _Group(NamedTuple):
    """The slots of one task, and their episodes."""

    slots: NDArray[np.intp]
    episodes: Episodes


class TrainingVectorEnv(VectorEnv["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[Any]"]):
    """Many trainings at once in one fleet per problem, each slot an environment of its own.

    Slot $i$ trains problem $i$ modulo their number. What happens in a slot depends on its own seed and actions alone, and is
    what `TrainingEnv` does with them, up to rounding: `reset(seed=s)` seeds slot $i$ with $s + i$.

    Attributes:
        groups: The slots and episodes of each problem.
        has_diverged: In which slots the last step made the run diverge.

    Args:
        num_envs: The number of slots, as many as problems or more.
        problems: What is trained: a problem, or several.
        autoreset_mode: What follows the end of an episode, one of Gymnasium's modes or its name: `"NextStep"` begins the next
            one instead of the slot's next step, whose action is not looked at; `"SameStep"` at once, with the last observation
            in `infos["final_obs"]`; `"Disabled"` leaves it to `reset(options={"reset_mask": ...})`.
        **settings: See `surefoot.tasks.tasks`.
    """

    def __init__(
        self,
        num_envs: int,
        problems: Problem[Any] | Sequence[Problem[Any]],
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **settings: Any,
    ) -> None:
        made = tasks(problems if isinstance(problems, Sequence) else [problems], **settings)
        checks.whole("num_envs", num_envs, low=len(made))
        slots = [np.arange(place, num_envs, len(made)) for place in range(len(made))]
        self._settle([_Group(mine, Episodes(task, len(mine))) for mine, task in zip(slots, made, strict=True)], autoreset_mode)

    @classmethod
    def of_tasks(
        cls,
        dealt: Sequence[tuple[Task, int]],
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> TrainingVectorEnv:
        """Slots of tasks that are ready, which may differ in everything but in what they show.

        >>> from surefoot.tasks import random_factorisations, tasks
        >>> short, long = (tasks([random_factorisations()], steps=steps)[0] for steps in (30, 60))
        >>> envs = TrainingVectorEnv.of_tasks([(short, 2), (long, 3)])
        >>> [group.slots.tolist() for group in envs.groups]
        [[0, 1], [2, 3, 4]]

        Args:
            dealt: Tasks, each with its number of slots, 1 or more: first those of the first task, then those of the second.
            autoreset_mode: As above.

        Raises:
            ValueError: There are no tasks, or they do not show the same features.
        """
        if not dealt:
            raise ValueError("dealt must hold one task or more, got none")
        names = [task.control.features.names for task, _ in dealt]
        for (task, _), others in zip(dealt, names, strict=True):
            if others != names[0]:
                raise ValueError(
                    f"all tasks must show the same features: {dealt[0][0].fleet.name} shows {', '.join(names[0])}, and "
                    f"{task.fleet.name} {', '.join(others)} (give them the same tier, and bound to all or none)"
                )
        envs = cls.__new__(cls)
        ends = np.cumsum([count for _, count in dealt]).tolist()
        envs._settle(  # noqa: SLF001 - its own
            [
                _Group(np.arange(end - count, end), Episodes(task, count))
                for (task, count), end in zip(dealt, ends, strict=True)
            ],
            autoreset_mode,
        )
        return envs

    def _settle(self, groups: list[_Group], autoreset_mode: AutoresetMode | str) -> None:
        """The spaces and slots of these groups."""
        self.groups, self._mode = groups, AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self._mode}
        self.num_envs = sum(len(slots) for slots, _ in groups)
        self.single_observation_space, self.single_action_space = box(groups[0].episodes.task), ACTIONS
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.has_diverged = np.zeros(self.num_envs, bool)
        self._random: list[Any] = [None] * self.num_envs  # Each slot's generator, once it is needed.
        self._is_over = np.ones(self.num_envs, bool)
        self._has_begun = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes in all slots, or in those of `options["reset_mask"]`.

        Args:
            seed: That of the first slot, the others following; or one per slot, None to go on with what is random.
            options: `reset_mask`, a vector of truth values.
        """
        where = self._mask((options or {}).get("reset_mask"))
        seeds = [seed + slot for slot in range(self.num_envs)] if isinstance(seed, int) else seed or [None] * self.num_envs
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed must be one number or one for each of {self.num_envs} slots, got {len(seeds)}")
        for slot in np.flatnonzero(where).tolist():
            if (own := seeds[slot]) is not None:
                self._random[slot] = gymnasium.utils.seeding.np_random(own)[0]
        if not (self._has_begun or where.all()):
            raise ResetNeeded("the first reset must begin an episode in every slot: leave out reset_mask")
        self._has_begun = True
        self._begin(where)
        return self._observations(), self._infos(where)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Change the rates, and train in every slot until its next decision."""
        if not self._has_begun or (self._mode is AutoresetMode.DISABLED and self._is_over.any()):
            raise ResetNeeded(
                f"episodes must have begun before a step: call reset for the slots {np.flatnonzero(self._is_over)}"
            )
        chosen, awake = as_actions(actions, (self.num_envs, 1)), ~self._is_over
        self._begin(self._is_over)
        rewards, losses, ends = np.zeros(self.num_envs), np.zeros(self.num_envs), np.zeros((2, self.num_envs), bool)
        self.has_diverged = np.zeros(self.num_envs, bool)
        for slots, episodes in self.groups:
            if awake[slots].any():
                outcome = episodes.advance(chosen[slots], awake[slots])
                rewards[slots], losses[slots], ends[:, slots] = outcome.reward, outcome.loss, ends_of(episodes.task, outcome)
                self.has_diverged[slots] = outcome.has_diverged
        self._is_over, infos = ends[0] | ends[1], self._infos(np.ones(self.num_envs, bool), losses)
        if self._mode is AutoresetMode.SAME_STEP and self._is_over.any():
            infos = self._start_again(infos)
        return self._observations(), rewards, ends[0], ends[1], infos

    def _mask(self, mask: Any) -> NDArray[np.bool]:
        if mask is None:
            return np.ones(self.num_envs, bool)
        where: NDArray[np.bool] = np.asarray(mask)
        if where.dtype != bool or where.shape != (self.num_envs,) or not where.any():
            raise ValueError(
                f"reset_mask must be a vector of {self.num_envs} truth values, one of them true at least, got {where.tolist()}"
            )
        return where

    def _begin(self, where: NDArray[np.bool]) -> None:
        """Begin new episodes in these slots, each from its own random numbers."""
        for slots, episodes in self.groups:
            places = np.flatnonzero(where[slots])
            if places.size:
                episodes.begin(places.tolist(), [self._drawn(slot) for slot in slots[places].tolist()])
        self._is_over &= ~where

    def _drawn(self, slot: int) -> int:
        """The seed of the slot's next episode."""
        if self._random[slot] is None:
            self._random[slot] = np.random.default_rng()
        return int(self._random[slot].integers(SEEDS))

    def _start_again(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Put what is last of the episodes that are over aside, and begin others in their place."""
        where, last = self._is_over.copy(), np.full(self.num_envs, None, object)
        observations = self._observations()
        for slot in np.flatnonzero(where):
            last[slot] = observations[slot]
        final = {name: where if name.startswith("_") else np.where(where, value, 0) for name, value in infos.items()}
        self._begin(where)
        begun = self._infos(where)
        infos = {name: value if name.startswith("_") else np.where(where, begun[name], value) for name, value in infos.items()}
        return infos | {"final_obs": last, "_final_obs": where, "final_info": final, "_final_info": where}

    def _observations(self) -> NDArray[np.float32]:
        return self._merged([episodes.view() for _, episodes in self.groups]).astype(np.float32)

    def _infos(self, where: NDArray[np.bool], losses: Any = None) -> dict[str, Any]:
        every = [episodes for _, episodes in self.groups]
        infos = {
            "rate": self._merged([episodes.rate * episodes.state.scale for episodes in every]),
            "steps": self._merged([episodes.state.step for episodes in every]),
            "loss": np.zeros(self.num_envs) if losses is None else losses,
        }
        return infos | {f"_{name}": where for name in infos}

    def _merged(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        """What there is of each group, in the order of the slots."""
        merged = np.empty((self.num_envs, *parts[0].shape[1:]), parts[0].dtype)
        for group, part in zip(self.groups, parts, strict=True):
            merged[group.slots] = part
        return merged
