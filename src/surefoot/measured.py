"""What is measured of a fleet beside its losses, and a note of it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.fleet import fleet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surefoot.fleet import Fleet
    from surefoot.problems import Problem


def measuring(problem: Problem[Any], tier: str) -> Fleet[Any]:
    """The fleet of a problem, which measures gradients if they are to be seen and it can be asked to."""
    settings: Any = problem
    if tier == "gradient" and is_dataclass(problem) and any(field.name == "gradients" for field in fields(problem)):
        settings = replace(settings, gradients=True)
    return fleet(settings)


class Measured:
    """Any fleet, with a note of these signals of every step.

    Attributes:
        kept: What was measured, by name: one vector for each step.
    """

    def __init__(self, together: Any, names: Sequence[str]) -> None:
        self._fleet = together
        self.kept: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)

    def step(self, runs: Any, rates: Any, awake: Any = None) -> Any:
        """One step, and a note of it.

        Raises:
            ValueError: The fleet does not measure that.
        """
        runs, signals = self._fleet.step(runs, rates, awake)
        for name, values in self.kept.items():
            if name not in signals:
                raise ValueError(
                    f"the policy sees {name}, and {self._fleet.name} does not measure it (take one that sees losses)"
                )
            values.append(on_host(signals[name]))
        return runs, signals


def on_host(values: Any) -> NDArray[np.float64]:
    """A vector of any framework, from any device, as one of its own in main memory."""
    return np.array(values.cpu() if hasattr(values, "cpu") else values, dtype=np.float64)
