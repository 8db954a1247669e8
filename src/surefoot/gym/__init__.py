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

from typing import TYPE_CHECKING, Any

import gymnasium

from surefoot.gym.single import TrainingEnv
from surefoot.gym.vector import TrainingVectorEnv
from surefoot.tasks import networks, random_factorisations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.problems import Problem

__all__ = ["NMFEnv", "NMFVectorEnv", "NetworkEnv", "NetworkVectorEnv", "TrainingEnv", "TrainingVectorEnv"]


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
    `first`, `tier` and `bound`, `schedule`, `rise` and `cut`, `alarm` and `rescue`, `warmup` and `begin`, `settle`, `start`,
    `reward` and `worst`. With `gymnasium.make_vec` there may be several `problems`, and there is an `autoreset_mode`: see
    `TrainingVectorEnv`.

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
