"""One round of proximal policy optimisation, by stable-baselines3."""

from __future__ import annotations

import random
import warnings
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from surefoot.gym import TrainingVectorEnv
from surefoot.learn.lessons import decisions
from surefoot.perceptron import Perceptron
from surefoot.sb3 import FleetVecEnv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gymnasium.vector import VectorEnv
    from numpy.typing import NDArray

    from surefoot.episodes import Task
    from surefoot.learn.settings import Settings

with suppress(ImportError):
    import_module("torch._dynamo")  # As the first optimizer does, for more than a second; here, those do that are forked later.

_PARTS = ("exp_avg", "exp_avg_sq", "step")
_SEEDS = 2**31


class Round(NamedTuple):
    """What a round came to.

    Attributes:
        transitions: Decisions that were learned from.
        reward: Sum of a slot's rewards, mean over all.
        rewards: The same for each task that took part.
        episodes: Episodes that came to an end.
        diverged: How many of these diverged.
        deviation: Standard deviation of the actions after it.
        moved: How far the updates moved the policy: approximate divergence of Kullback and Leibler, in nats.
        explained: Share of the returns' variance that the value explained, at most 1.
    """

    transitions: int
    reward: float
    rewards: list[float]
    episodes: int
    diverged: int
    deviation: float
    moved: float
    explained: float


class Agent:
    """A policy that is learning.

    Nothing random is shared with the rest of the process, and each round's randomness comes from its own seed alone, so that a
    training can go on from `arrays` as if it had never stopped.

    Args:
        dealt: Tasks, each with its number of slots.
        longest: Decisions of the longest episode, 1 or more.
        settings: How to learn.
        seed: Of the first weights and of all that is drawn in the rounds, 0 or more.
    """

    def __init__(self, dealt: Sequence[tuple[Task, int]], longest: int, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        slots = sum(count for _, count in dealt)
        rollout = min(settings.rollout or longest, longest)
        with _seeded(seed, 0), warnings.catch_warnings():
            # Minibatches are of one size but for the last, which is what this warning is about.
            warnings.filterwarnings("ignore", "You have specified a mini-batch size", UserWarning)
            self._ppo = PPO(
                "MlpPolicy",
                _envs(_together(dealt), range(slots)),
                n_steps=rollout,
                batch_size=max(-(-slots * rollout // settings.minibatches), 2),
                n_epochs=settings.epochs,
                gamma=settings.discount,
                gae_lambda=settings.trace,
                clip_range=settings.clip,
                ent_coef=settings.entropy,
                policy_kwargs={"net_arch": list(settings.hidden), "log_std_init": settings.deviation},
                device="cpu",
            )
        self._ppo.set_logger(Logger(None, []))

    def learn(self, dealt: Sequence[tuple[Task, int]], number: int, envs: VectorEnv[Any, Any, Any] | None = None) -> Round:
        """Go through a round: everything begins afresh, is collected and learned from.

        Args:
            dealt: Tasks, each with its number of slots, as many in all as before.
            number: Of the round, from 0.
            envs: Where these slots are trained, if not in this process.
        """
        ppo, rate = self._ppo, self.settings.rate_of(number)
        longest = max(decisions(task) for task, _ in dealt)
        transitions = ppo.n_envs * ppo.n_steps * -(-longest // ppo.n_steps)
        seeds = np.random.default_rng((self.seed, number, 7)).integers(_SEEDS, size=ppo.n_envs).tolist()
        ppo.set_env(_envs(envs or _together(dealt), seeds))
        ppo.lr_schedule = lambda _progress: rate
        watch = _Watch(ppo.n_envs)
        with _seeded(self.seed, number + 1):
            ppo.learn(transitions, watch, log_interval=None)  # type: ignore[arg-type]
        logged, ends = ppo.logger.name_to_value, np.cumsum([count for _, count in dealt])[:-1]
        return Round(
            transitions=transitions,
            reward=float(watch.rewards.mean()),
            rewards=[float(part.mean()) for part in np.split(watch.rewards, ends)],
            episodes=watch.episodes,
            diverged=watch.diverged,
            deviation=float(logged["train/std"]),
            moved=float(logged["train/approx_kl"]),
            explained=float(logged["train/explained_variance"]),
        )

    @property
    def perceptron(self) -> Perceptron:
        """What was learned so far, by the mean of its actions."""
        policy: Any = self._ppo.policy
        linear = [module for module in policy.mlp_extractor.policy_net if isinstance(module, torch.nn.Linear)]
        layers = [(layer.weight, layer.bias) for layer in (*linear, policy.action_net)]
        return Perceptron(tuple((_copied(weight), _copied(bias)) for weight, bias in layers))

    @property
    def arrays(self) -> dict[str, Any]:
        """Weights of policy and value, and what Adam remembers of them."""
        found = {}
        for name, parameter in self._ppo.policy.named_parameters():
            found[f"weights.{name}"] = _copied(parameter)
            for part, value in self._ppo.policy.optimizer.state.get(parameter, {}).items():
                found[f"{part}.{name}"] = _copied(value)
        return found

    @arrays.setter
    def arrays(self, arrays: Mapping[str, Any]) -> None:
        policy = self._ppo.policy
        for name, parameter in policy.named_parameters():
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(arrays[f"weights.{name}"].copy()))
            kept = {part: arrays[f"{part}.{name}"] for part in _PARTS if f"{part}.{name}" in arrays}
            if kept:
                policy.optimizer.state[parameter] = {part: torch.from_numpy(value.copy()) for part, value in kept.items()}


class _Watch(BaseCallback):
    """Adds up what happens in a round."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.rewards, self.episodes, self.diverged = np.zeros(slots), 0, 0

    def _on_step(self) -> bool:
        self.rewards += self.locals["rewards"]
        self.episodes += int(self.locals["dones"].sum())
        self.diverged += int(self.training_env.envs.has_diverged.sum())  # type: ignore[attr-defined]
        return True


def _together(dealt: Sequence[tuple[Task, int]]) -> TrainingVectorEnv:
    return TrainingVectorEnv.of_tasks(dealt, autoreset_mode="SameStep")


def _envs(envs: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> FleetVecEnv:
    made = FleetVecEnv(envs)
    made._seeds = list(seeds)  # noqa: SLF001 - what its own `seed` would set, which only counts up from one
    return made


def _copied(tensor: torch.Tensor) -> NDArray[np.float32]:
    copy: NDArray[np.float32] = tensor.detach().numpy().astype(np.float32, copy=True)
    return copy


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    """The global random numbers, of which stable-baselines3 draws, from a seed of their own; as they were afterwards."""
    first, second, third = np.random.SeedSequence((seed, number, 11)).generate_state(3).tolist()
    before, plain = np.random.get_state(), random.getstate()  # noqa: NPY002 - that is where they are
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(first)
        np.random.seed(second)  # noqa: NPY002 - the same
        random.seed(third)
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002 - the same
            random.setstate(plain)
