"""Runs that sit out a step while their neighbours make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing import Any

    from surefoot.stacked.fleet import Trainings


class Asleep(NamedTuple):
    """What belongs to the runs that are asleep, put aside.

    They take part in the step's products, so that those keep their shape, and are put back afterwards.

    Attributes:
        places: Which runs.
        rows: Copies of theirs from each matrix.
    """

    places: Tensor
    rows: list[Tensor]

    @classmethod
    def of(cls, runs: Trainings, awake: Any) -> Asleep:
        """All runs but those that are awake."""
        places = torch.from_numpy(np.flatnonzero(~np.asarray(awake, bool))).to(runs.weights.device)
        return cls(places, [matrix[places] for matrix in _matrices(runs)])

    def put_back(self, runs: Trainings) -> None:
        """Leave the runs as if there had been no step, with the batch that it used as their next one."""
        for matrix, rows in zip(_matrices(runs), self.rows, strict=True):
            matrix[self.places] = rows
        used, last = runs.place - 1, runs.ahead[-1, self.places].cpu().numpy()
        runs.ahead[used + 1 :, self.places] = runs.ahead[used:-1, self.places]
        for place, rows in zip(self.places.tolist(), last, strict=True):
            runs.orders[place].put_back(rows)


def _matrices(runs: Trainings) -> list[Tensor]:
    return [runs.weights, runs.buffers, *runs.memory, runs.steps, runs.healthy]
