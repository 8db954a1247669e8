"""A scheduler that goes by evaluations, in a loop that goes by optimizer steps."""

from __future__ import annotations

from math import nan
from typing import Any

from surefoot.combine import Warmup
from surefoot.torch import PolicyLR

__all__ = ["EvaluatedLR"]


class EvaluatedLR(PolicyLR):
    """A `PolicyLR` that is stepped with a metric at evaluations, and does not mind a bare `step()` after every optimizer step.

    A ramp is of optimizer steps all the same: while a `Warmup` lasts, the bare calls count, and those with a metric do not.

    >>> import torch
    >>> from surefoot import Greedy
    >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    >>> scheduler = EvaluatedLR(optimizer, Warmup(Greedy(factor=0.5, patience=0), steps=2, start=0.5))
    >>> for metric in [None, 3.0, None, 2.0, None]:
    ...     optimizer.step()
    ...     scheduler.step(metric)
    ...     print(round(scheduler.get_last_lr()[0], 3))
    0.075
    0.075
    0.1
    0.2
    0.2
    """

    def step(self, metrics: Any = None, **signals: Any) -> None:  # type: ignore[override] # As in PolicyLR.
        """Take in a metric, or one optimizer step of a ramp.

        Args:
            metrics: The metric; None after an optimizer step.
            **signals: Further measurements for the policy.

        Raises:
            TypeError: The metric is not a number.
        """
        is_ramp = isinstance(self.policy, Warmup) and self.state.step < self.policy.steps
        if is_ramp == (metrics is None):
            super().step(nan if is_ramp else metrics, **signals)
