"""The closed loop: a problem, a policy, and one number going round."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import checks
from surefoot.runner import runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surefoot.policy import Policy
    from surefoot.problems import Problem


class Row(NamedTuple):
    """One optimizer step: how many came before it, its batch's loss before it, and the rate it was made at."""

    step: int
    loss: float
    rate: float


def train(
    problem: Problem[Any],
    policy: Policy[Any],
    *,
    base: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    evaluate: Callable[[int, float], None] | None = None,
    evaluate_at: frozenset[int] = frozenset(),
) -> Iterator[Row]:
    """Train a problem under a policy, one row per optimizer step.

    A run whose loss is not finite ends there: nothing after it could be believed.

    Args:
        problem: What to train.
        policy: Who sets the rate.
        base: The base rate, 0 or more; the problem's own if None.
        steps: The budget, 1 or more; the problem's own if None.
        seed: Seed of initialisation and batch order.
        evaluate: Called with the number of steps made and the held-out loss.
        evaluate_at: After which numbers of steps it is called.

    Raises:
        ValueError: A rate or a number of steps is outside its range.
    """
    base, steps = problem.base if base is None else base, problem.steps if steps is None else steps
    checks.number("base", base, low=0.0)
    checks.whole("steps", steps, low=1)
    run, driver = problem.init(seed), runner(policy)
    scale = driver.state.scale
    for step in range(steps):
        rate = base * scale
        run, signals = problem.step(run, rate)
        loss = signals["loss"]
        yield Row(step, loss, rate)
        if not isfinite(loss):
            return
        scale = driver.advance(**signals)
        if evaluate is not None and step + 1 in evaluate_at:
            evaluate(step + 1, problem.held_out(run))
