"""Environments for stable-baselines3: its vector contract over Gymnasium's, at no cost per environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from numpy.typing import NDArray

_SHOWN = ("rate", "steps", "loss")


class FleetVecEnv(VecEnv):
    """Many trainings as one environment of stable-baselines3.

    >>> from stable_baselines3 import PPO
    >>> from surefoot.gym import NMFVectorEnv
    >>> envs = FleetVecEnv(NMFVectorEnv(8, steps=30, autoreset_mode="SameStep"))
    >>> agent = PPO("MlpPolicy", envs, n_steps=5, batch_size=40, seed=0, device="cpu").learn(80)
    >>> agent.predict(envs.reset(), deterministic=True)[0].shape
    (8, 1)

    Args:
        envs: The trainings: a `TrainingVectorEnv`, or what gives the same information; their autoreset mode must be "SameStep",
            the only one that stable-baselines3 knows.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        mode: Any = envs.metadata["autoreset_mode"]
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f'the autoreset mode must be "SameStep", got "{mode.value}" (pass autoreset_mode="SameStep")')
        self.envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.metadata = {"render_modes": []}

    def reset(self) -> Any:
        """Begin an episode in every slot; `seed` may have been called before."""
        seeds = self._seeds
        own: Any = None if seeds[0] is None else list(seeds)
        observations, infos = self.envs.reset(seed=own)
        self.reset_infos = _one_by_one(infos)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Keep the actions for `step_wait`."""
        self._waiting = actions

    def step_wait(self) -> Any:
        """One decision in every slot; where an episode ends, the next one begins."""
        observations, rewards, terminated, truncated, infos = self.envs.step(self._waiting)
        ends = terminated | truncated
        own = _one_by_one(infos, truncated)
        for slot in np.flatnonzero(ends).tolist():
            self.reset_infos[slot] = {name: own[slot][name] for name in _SHOWN}
            own[slot] |= {name: infos["final_info"][name][slot].item() for name in _SHOWN}
            own[slot]["terminal_observation"] = infos["final_obs"][slot]
        return observations, rewards.astype(np.float32), ends, own

    def close(self) -> None:
        """Close the trainings."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the trainings as a whole, once per slot that is asked for."""
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:  # noqa: ARG002 - the slots are one object
        """Set an attribute of the trainings as a whole."""
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the trainings as a whole, once; what it returns, once per slot that is asked for."""
        answer = getattr(self.envs, method_name)(*method_args, **method_kwargs)
        return [answer for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:  # noqa: ARG002 - whatever the wrapper
        """No slot is wrapped by itself."""
        return [False for _ in self._get_indices(indices)]


def _one_by_one(infos: dict[str, Any], truncated: NDArray[np.bool] | None = None) -> list[dict[str, Any]]:
    """The information on every slot by itself: as lists first, since plain numbers are taken out of these faster."""
    rows = zip(*(infos[name].tolist() for name in _SHOWN), strict=True)
    if truncated is None:
        return [dict(zip(_SHOWN, row, strict=True)) for row in rows]
    names = (*_SHOWN, "TimeLimit.truncated")
    return [dict(zip(names, (*row, end), strict=True)) for row, end in zip(rows, truncated.tolist(), strict=True)]
