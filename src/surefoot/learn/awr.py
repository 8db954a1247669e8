"""Policies learned from runs that are there already: advantage-weighted regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import checks
from surefoot.control import Control
from surefoot.features import Features
from surefoot.learn.fitting import fitted, network_of, said, weights
from surefoot.learn.logs import replays
from surefoot.timed import Constant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from surefoot.learn.logs import Replay
    from surefoot.perceptron import Perceptron
    from surefoot.runs import Run


def constant(steps: int | None, *, tier: str = "loss", window: int = 10, bound: bool = False) -> Control:
    """What a policy from logs is placed in: a constant rate, corrected, with the guards of all learned policies.

    Not another schedule: logs hold what decays of many shapes came to, and a policy can take them from there.
    """
    features = Features(window=window, tier=tier, bound=bound)
    return Control(features, Constant(), steps, first=(1, 2), rise=2.0, cut=4.0, alarm=8.0, rescue=4.0)


@dataclass(frozen=True)
class Regression:
    r"""How a policy is fitted to runs: a weighted regression of actions on what was in view.

    A decision weighs $\min(e^{A/(\beta\sigma)},\,w)$, with its advantage $A$, the deviation $\sigma$ of all of them and the
    temperature $\beta$. There are two kinds of advantage.

    *Alone*: the discounted sum of the rewards that followed in its run, less what a network expects of the view.

    *Paired*: where a store has several runs of one problem and seed, which differ in their rates alone, every decision is asked
    anew: which action would have led to the rate that another of these runs had at the time? Its advantage is how much better
    than their mean that run ended, on held-out data where it was measured. It takes for granted that the end depends more on
    the rates to come than on where the run stands by then.

    Attributes:
        control: What is seen and what an action does, for a budget in steps, or None for one that is not known.
        discount: What a reward one decision later is worth, from 0 to 1.
        temperature: $\beta$, above 0: the lower, the more the best runs count; infinite to copy what was done.
        heaviest: $w$, 1 or more.
        partners: With how many others of its seed a run is compared at each decision, 0 or more; 0 takes every run alone.
        unlimited: Whether it is learned, too, what to do when the budget is not known.
        hidden: Units of the hidden layers.
        passes: How often the regression goes through the decisions, 1 or more.
        batch: Decisions in a batch, 1 or more.
        rate: Adam's learning rate at the start; it falls linearly to 0.
        seed: Of the weights at the start, the batches and the partners.

    Reference: Peng, Kumar, Zhang and Levine, 2019, arXiv:1910.00177.
    """

    control: Callable[[int | None], Control] = constant
    discount: float = 0.95
    temperature: float = 0.5
    heaviest: float = 100.0
    partners: int = 3
    unlimited: bool = True
    hidden: tuple[int, ...] = (32, 32)
    passes: int = 6
    batch: int = 512
    rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        checks.number("discount", self.discount, low=0.0, high=1.0)
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        checks.number("heaviest", self.heaviest, low=1.0)
        for name in ("passes", "batch"):
            checks.whole(name, getattr(self, name), low=1)
        checks.whole("partners", self.partners, low=0)


def from_store(store: Iterable[Run], settings: Regression | None = None) -> tuple[Perceptron, dict[str, Any]]:
    """Fit a policy to the runs of a store, whatever set their rates.

    It takes seconds on one core of a CPU, and is the same to the last bit for the same runs, settings and machine.

    Args:
        store: A `Store`, or any runs.
        settings: How; None for the usual.

    Returns:
        The network, and what was found: `runs`, `decisions`, `paired` (how many of these are compared with others of their
        seed), `explained` (the share of the variance of what follows in a run that the view explains; None if no run is alone)
        and `effective` (as how many decisions of equal weight the weighted ones count, as a share of all).

    Raises:
        ValueError: There are no runs to learn from, or they have not kept what the policy shall see.
    """
    settings, runs = settings or Regression(), list(store)
    found = replays(runs, settings.control)
    if settings.unlimited:
        found += replays(runs, lambda _: settings.control(None))
    return fit(found, settings)


def fit(found: Iterable[Replay], settings: Regression) -> tuple[Perceptron, dict[str, Any]]:
    """Fit a policy to replayed runs: see `from_store`."""
    found, random = list(found), np.random.default_rng(settings.seed)
    alone, paired = _alone(found, settings), _paired(found, settings, random)
    view, action = (np.concatenate([alone[at], paired[at]]) for at in range(2))
    weight = np.concatenate([weights(part[2], settings.temperature, settings.heaviest) for part in (alone, paired)])
    weight /= weight.mean()
    found_out = {
        "runs": sum(len(each.runs) for each in found) // (2 if settings.unlimited else 1),
        "decisions": len(view),
        "paired": len(paired[0]),
        "explained": alone[3],
        "effective": float(weight.sum() ** 2 / (weight**2).sum() / len(weight)),
    }
    return network_of(_fitted(view, action, weight, settings)), found_out


def _alone(found: list[Replay], settings: Regression) -> tuple[Any, Any, Any, float | None]:
    """Views, actions and advantages of runs that are compared with none, and how much of what follows the view explains."""
    views: list[Any] = []
    actions: list[Any] = []
    sums: list[Any] = []
    for each in found:
        own, is_alone = each.own(), each.alone() | (settings.partners == 0)
        total, mine = returns(own.reward, own.run, settings.discount), is_alone[own.run]
        for parts, values in ((views, own.view), (actions, own.action), (sums, total)):
            parts.append(values[mine])
    view, action, total = (np.concatenate(part) for part in (views, actions, sums))
    if not len(view):
        return view, action, total, None
    expected = said(_fitted(view, total, np.ones(len(total)), settings), view)
    return view, action, total - expected, float(1.0 - (total - expected).var() / max(total.var(), 1e-12))


def _paired(found: list[Replay], settings: Regression, random: np.random.Generator) -> tuple[Any, Any, Any]:
    """The same of runs that are compared with others of their seed."""
    empty = np.zeros((0, len(found[0].control.features.names)), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)
    made = [each.crossed(settings.partners, random) for each in found] if settings.partners else []
    return tuple(np.concatenate(part) for part in zip(empty, *made, strict=True))  # type: ignore[return-value]


def returns(reward: NDArray[Any], run: NDArray[np.intp], discount: float) -> NDArray[np.float64]:
    """What followed each decision in its run: the sum of the rewards, discounted.

    >>> returns(np.array([1.0, 1.0, 1.0]), np.array([0, 0, 1]), discount=0.5).tolist()
    [1.5, 1.0, 1.0]
    """
    total, after = np.zeros(len(reward)), 0.0
    for place in range(len(reward) - 1, -1, -1):
        is_last = place + 1 == len(reward) or run[place + 1] != run[place]
        total[place] = after = float(reward[place]) + (0.0 if is_last else discount * after)
    return total


def _fitted(view: NDArray[Any], target: NDArray[Any], weight: NDArray[Any], settings: Regression) -> Any:
    how = {"passes": settings.passes, "batch": settings.batch, "rate": settings.rate, "seed": settings.seed}
    return fitted((view.shape[1], *settings.hidden, 1), view, target, weight, **how)  # type: ignore[arg-type]
