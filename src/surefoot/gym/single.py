"""One training as a Gymnasium environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box

from surefoot.episodes import Episodes
from surefoot.tasks import tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.episodes import Outcome, Task
    from surefoot.problems import Problem

ACTIONS: Any = Box(-1.0, 1.0, (1,), np.float32)
"""What an agent can do."""

SEEDS = 2**31
"""Episodes are begun from seeds below this one."""


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
        self.observation_space, self.action_space = box(self._task), ACTIONS
        self._is_over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the same seed begins the same one."""
        super().reset(seed=seed, options=options)
        self.episodes.begin([0], [int(self.np_random.integers(SEEDS))])
        self._is_over = False
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Change the rate, and train until the next decision."""
        if self._is_over:
            raise ResetNeeded("an episode must have begun before a step: call reset")
        outcome = self.episodes.advance(as_actions(action, (1,)), np.array([True]))
        terminated, truncated = (bool(end[0]) for end in ends_of(self._task, outcome))
        self._is_over = terminated or truncated
        return self._observation(), float(outcome.reward[0]), terminated, truncated, self._info(float(outcome.loss[0]))

    def _observation(self) -> Any:
        return self.episodes.view()[0].astype(np.float32)

    def _info(self, loss: float = 0.0) -> dict[str, Any]:
        state, rate = self.episodes.state, self.episodes.rate
        return {"rate": float(rate[0] * state.scale[0]), "steps": int(state.step[0]), "loss": loss}


def box(task: Task) -> Any:
    """The observations of a task."""
    features = task.control.features
    return Box(np.array(features.low, np.float32), np.array(features.high, np.float32))


def as_actions(actions: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Actions as a vector with one entry per slot."""
    actions = np.asarray(actions, np.float64)
    if actions.shape != shape or not np.isfinite(actions).all():
        raise ValueError(f"actions must be finite numbers of the shape {shape}, got {actions.tolist()}")
    vector: NDArray[np.float64] = actions.reshape(-1)
    return vector


def ends_of(task: Task, outcome: Outcome) -> NDArray[np.bool]:
    """Which episodes are terminated, and which are truncated."""
    if task.control.steps is None:
        return np.stack([outcome.has_diverged, outcome.is_over])
    return np.stack([outcome.has_diverged | outcome.is_over, np.zeros_like(outcome.is_over)])
