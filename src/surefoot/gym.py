"""The closed loop as Gymnasium environments, in which an agent sets the learning rate.

Importing this module registers `surefoot/NMF-v0` and `surefoot/Network-v0`:

>>> import gymnasium, surefoot.gym
>>> envs = gymnasium.make_vec("surefoot/NMF-v0", num_envs=8, steps=30)
>>> observations, infos = envs.reset(seed=0)
>>> observations.shape, envs.single_action_space
((8, 11), Box(-1.0, 1.0, (1,), float32))

An id with the module in front, `surefoot.gym:surefoot/NMF-v0`, does without the import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from surefoot import checks
from surefoot.episodes import Episodes
from surefoot.tasks import networks, random_factorisations, tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.episodes import Outcome, Task
    from surefoot.problems import Problem

_SEEDS = 2**31
_ACTIONS: Any = Box(-1.0, 1.0, (1,), np.float32)


class TrainingEnv(gymnasium.Env["NDArray[np.float32]", "NDArray[np.float32]"]):
    """Any problem as an environment: see `NMFEnv` and `NetworkEnv`, which differ from it in their default problem alone.

    Attributes:
        episodes: The episode, as one of one.

    Args:
        problem: What is trained: a problem with a fleet of its own, or any other.
        **settings: See `surefoot.tasks.tasks`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own attribute

    def __init__(self, problem: Problem[Any], **settings: Any) -> None:
        (self._task,) = tasks([problem], **settings)
        self.episodes = Episodes(self._task, 1)
        self.observation_space, self.action_space = _box(self._task), _ACTIONS
        self._is_over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the same seed begins the same one."""
        super().reset(seed=seed, options=options)
        self.episodes.begin([0], [int(self.np_random.integers(_SEEDS))])
        self._is_over = False
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Change the rate, and train until the next decision."""
        if self._is_over:
            raise ResetNeeded("an episode must have begun before a step: call reset")
        outcome = self.episodes.advance(_actions(action, (1,)), np.array([True]))
        terminated, truncated = (bool(end[0]) for end in _ends(self._task, outcome))
        self._is_over = terminated or truncated
        return self._observation(), float(outcome.reward[0]), terminated, truncated, self._info(float(outcome.loss[0]))

    def _observation(self) -> Any:
        return self.episodes.view()[0].astype(np.float32)

    def _info(self, loss: float = 0.0) -> dict[str, Any]:
        state, rate = self.episodes.state, self.episodes.rate
        return {"rate": float(rate[0] * state.scale[0]), "steps": int(state.step[0]), "loss": loss}


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
        self.num_envs, self._mode = num_envs, AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self._mode}
        slots = [np.arange(place, num_envs, len(made)) for place in range(len(made))]
        self.groups = [_Group(mine, Episodes(task, len(mine))) for mine, task in zip(slots, made, strict=True)]
        self.single_observation_space, self.single_action_space = _box(made[0]), _ACTIONS
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._random = [np.random.default_rng() for _ in range(num_envs)]
        self._is_over = np.ones(num_envs, bool)
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
        chosen, awake = _actions(actions, (self.num_envs, 1)), ~self._is_over
        self._begin(self._is_over)
        rewards, losses, ends = np.zeros(self.num_envs), np.zeros(self.num_envs), np.zeros((2, self.num_envs), bool)
        for slots, episodes in self.groups:
            if awake[slots].any():
                outcome = episodes.advance(chosen[slots], awake[slots])
                rewards[slots], losses[slots], ends[:, slots] = outcome.reward, outcome.loss, _ends(episodes.task, outcome)
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
                episodes.begin(places.tolist(), [int(self._random[slot].integers(_SEEDS)) for slot in slots[places]])
        self._is_over &= ~where

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


def _box(task: Task) -> Any:
    features = task.control.features
    return Box(np.array(features.low, np.float32), np.array(features.high, np.float32))


def _actions(actions: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Actions as a vector with one entry per slot."""
    actions = np.asarray(actions, np.float64)
    if actions.shape != shape or not np.isfinite(actions).all():
        raise ValueError(f"actions must be finite numbers of the shape {shape}, got {actions.tolist()}")
    vector: NDArray[np.float64] = actions.reshape(-1)
    return vector


def _ends(task: Task, outcome: Outcome) -> NDArray[np.bool]:
    """Which episodes are terminated, and which are truncated."""
    if task.control.steps is None:
        return np.stack([outcome.has_diverged, outcome.is_over])
    return np.stack([outcome.has_diverged | outcome.is_over, np.zeros_like(outcome.is_over)])


class NMFEnv(TrainingEnv):
    r"""Set the learning rate of nonnegative matrix factorisations, each of a matrix of its own.

    ## Description

    A random nonnegative matrix $V$ is factorised, $V \approx WH$, by projected stochastic gradient steps. The agent sets the
    rate of windows of steps, from a starting rate that may be far too low or too high. What is seen depends on no unit and on
    no size, so that it means the same in another training: see `surefoot.features.Features`.

    ## Action Space

    `Box(-1, 1, (1,), float32)`. At 1 the rate is multiplied by `rise`, at -1 divided by `cut`, at 0 left to the schedule, and
    in between evenly in its logarithm. With a `schedule` the action corrects that: the rate is schedule times correction.

    ## Observation Space

    `Box` of these entries, float32, in this order; the last three only on request.

    | entry | what it is | low | high |
    |---|---|---|---|
    | `progress` | position in the budget; 0 if it is not known | -1 | 1 |
    | `limited` | whether it is known | 0 | 1 |
    | `level` | smoothed loss, against the first | -4 | 4 |
    | `jump` | last loss, against the smoothed one | -4 | 4 |
    | `short`, `long` | change of the smoothed loss over two horizons | -4 | 4 |
    | `trend` | the same over its own noise | -4 | 4 |
    | `noise` | scatter of the loss | -4 | 4 |
    | `scale` | rate, against the starting one | -4 | 4 |
    | `change` | rate, against its recent mean | -4 | 4 |
    | `quiet` | time since the rate last changed | -1 | 4 |
    | `alignment` | cosine between downhill and the last move (`tier="gradient"`) | -2 | 2 |
    | `reach` | relative size of the steps (`tier="gradient"`) | -4 | 4 |
    | `bound` | rate over the stability bound (`bound=True`) | -4 | 4 |

    ## Rewards

    The fall of the natural logarithm of the loss, cut at 3 on both sides, and -3 if the run diverges. Which loss, and when, is
    `reward`: "training", the mean training loss of one window to the next; "held-out", the held-out loss after each window;
    "final", the held-out loss from beginning to end, once and uncut.

    ## Starting State

    Matrix, first factors, order of batches and starting rate are drawn from the seed; the rate evenly in its logarithm, between
    the multiples `start` of the problem's base rate. Nothing has been trained yet: the observation is the same for all.

    ## Episode End

    Termination: the loss is not finite or above `worst` times the first one, or a known budget is used up. Truncation: a budget
    that is not known is used up.

    ## Arguments

    `problem`, a `Factorisation`; its `draw` is the distribution of matrices. By default
    `surefoot.tasks.random_factorisations()`. All others are those of `surefoot.tasks.tasks`: `steps` and `budget`, `window` and
    `first`, `tier` and `bound`, `schedule`, `rise` and `cut`, `start`, `reward` and `worst`. With `gymnasium.make_vec` there
    may be several `problems`, and there is an `autoreset_mode`: see `TrainingVectorEnv`.

    >>> env = gymnasium.make("surefoot/NMF-v0", steps=30, start=(0.1, 0.1), reward="held-out")
    >>> _, infos = env.reset(seed=0)
    >>> infos["rate"]
    0.05
    >>> observation, reward, terminated, truncated, infos = env.step(env.action_space.high)
    >>> infos["steps"], infos["rate"]
    (1, 0.1)
    """

    def __init__(self, problem: Problem[Any] | None = None, **settings: Any) -> None:
        super().__init__(problem or random_factorisations(), **settings)


class NMFVectorEnv(TrainingVectorEnv):
    """`NMFEnv`, many at once: see `TrainingVectorEnv` for its arguments."""

    def __init__(self, num_envs: int, problems: Problem[Any] | Sequence[Problem[Any]] | None = None, **settings: Any) -> None:
        super().__init__(num_envs, problems or random_factorisations(), **settings)


class NetworkEnv(TrainingEnv):
    """Set the learning rate of a network in training.

    ## Description

    A network is trained on real data by the optimizer of its problem. The agent sets the rate of windows of steps, from a
    starting rate that may be far too low or too high.

    ## Action Space

    `Box(-1, 1, (1,), float32)`: the change of the rate's logarithm, as in `NMFEnv`.

    ## Observation Space

    `Box`, float32, of the entries that `NMFEnv` describes:

    | entries | low | high |
    |---|---|---|
    | `progress` | -1 | 1 |
    | `limited` | 0 | 1 |
    | `level`, `jump`, `short`, `long`, `trend`, `noise`, `scale`, `change` | -4 | 4 |
    | `quiet` | -1 | 4 |
    | `alignment` (`tier="gradient"`) | -2 | 2 |
    | `reach` (`tier="gradient"`) | -4 | 4 |

    ## Rewards

    The fall of the natural logarithm of the loss, cut at 3 on both sides, and -3 if the run diverges: see `NMFEnv`.

    ## Starting State

    Initial weights, order of batches and starting rate are drawn from the seed, as in `NMFEnv`.

    ## Episode End

    Termination: the loss is not finite or above `worst` times the first one, or a known budget is used up. Truncation: a budget
    that is not known is used up.

    ## Arguments

    `problem`, by default `surefoot.networks.network("digits-mlp")`; all others are those of `surefoot.tasks.tasks`. With
    `gymnasium.make_vec` there may be several `problems`, such as those of `surefoot.tasks.networks`.

    >>> from surefoot import WarmupStableDecay
    >>> env = gymnasium.make("surefoot/Network-v0", steps=30, schedule=WarmupStableDecay)
    >>> env.reset(seed=0)[0].shape
    (11,)
    """

    def __init__(self, problem: Problem[Any] | None = None, **settings: Any) -> None:
        super().__init__(problem or networks()[0], **settings)


class NetworkVectorEnv(TrainingVectorEnv):
    """`NetworkEnv`, many at once: see `TrainingVectorEnv` for its arguments."""

    def __init__(self, num_envs: int, problems: Problem[Any] | Sequence[Problem[Any]] | None = None, **settings: Any) -> None:
        super().__init__(num_envs, problems or networks(), **settings)


def _register() -> None:
    for name in ("NMF", "Network"):
        gymnasium.register(
            f"surefoot/{name}-v0",
            entry_point=f"surefoot.gym:{name}Env",
            vector_entry_point=f"surefoot.gym:{name}VectorEnv",
        )


_register()
