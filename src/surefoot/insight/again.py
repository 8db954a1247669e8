"""A run of a store trained again, to measure what was not kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import catalogue, policy_file
from surefoot.insight.log import driver_of
from surefoot.loop import drive
from surefoot.measured import Measured, measuring

if TYPE_CHECKING:
    from surefoot.insight.log import Log


def measured(log: Log, policy: str | None = None) -> Log:
    """The same run with the signals that the policy sees, by training what its trial names once more.

    Args:
        log: A run of a store.
        policy: Who shall see them; None for the policy that drove the run.

    Raises:
        ValueError: It is no run of a store, its problem is not in the catalogue, or it does not measure what the policy sees.
    """
    if log.trial is None:
        raise ValueError(f"{log.name} is no run of a store, so it cannot be trained again (leave out --again)")
    trial, driver = log.trial, log.driver
    name = policy or (driver.name if driver else "")
    card = policy_file.read(name)[1]
    problem: Any = catalogue.problem(trial.problem, trial.optimizer)
    noted = Measured(measuring(problem, card.tier), card.features.signals)
    made = driver_of(trial)
    rows = list(drive(noted, [(made, 1)], np.array([trial.base]), [trial.seed], trial.steps))
    losses, rates = ([float(getattr(row, which)[0]) for row in rows] for which in ("loss", "rate"))
    signals = {name: [float(value[0]) for value in values] for name, values in noted.kept.items()}
    return replace(log, losses=losses, rates=rates, signals=signals)
