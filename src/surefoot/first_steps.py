"""What is surely a mistake in how a scheduler is called, seen in its first steps."""

from __future__ import annotations

import warnings
from typing import Any

LOOKED_AT = 32
"""Steps after which nobody looks any more."""
_ENOUGH = 4


class FirstSteps:
    """Looks at a scheduler's first steps, and says once what is wrong.

    Whether the optimizer stepped in between is told by a mark that PyTorch's schedulers have it leave. It is wiped off here,
    but not before the second step: other schedulers of the same optimizer look at it in their first.

    Args:
        optimizer: Whose steps the scheduler is to follow.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._steps = self._same = self._twice = 0
        self._loss: Any = None
        self._stepped = False

    def look(self, loss: float, *, stacklevel: int) -> bool:
        """Look at a step, and return whether to go on looking.

        Args:
            loss: What the scheduler was handed.
            stacklevel: Of the warnings, for whoever called the scheduler.
        """
        self._steps += 1
        self._same = self._same + 1 if loss == self._loss else 1
        self._loss = loss
        if self._steps == LOOKED_AT == self._same and loss > 1.0 and float(loss).is_integer():
            message = (
                f"the loss was {loss:g} at each of the first {LOOKED_AT} steps, which looks like the size of a batch; "
                "hand over the loss: step(loss)"
            )
            warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)
        return self._is_once(stacklevel + 1) and self._steps < LOOKED_AT

    def _is_once(self, stacklevel: int) -> bool:
        """Whether the optimizer steps as often as the scheduler, as far as can be told."""
        stepped = bool(getattr(self._optimizer, "_opt_called", True))
        # A scaler of gradients may leave out the optimizer's first steps one after the other. Here they alternate.
        self._twice += self._stepped and not stepped
        self._stepped = stepped
        if self._steps > 1 and stepped and hasattr(self._optimizer, "_opt_called"):
            self._optimizer._opt_called = False  # noqa: SLF001 - it is the mark that PyTorch's own schedulers share
        if self._twice < _ENOUGH:
            return True
        message = (
            "the scheduler is stepped more than once per step of the optimizer, so it takes every loss for several; call "
            "step(loss) once, after optimizer.step() (with accelerate, hand the scheduler to accelerator.prepare)"
        )
        warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)
        return False
