"""Runs that sit out a step while their neighbours make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from surefoot.stacked.fleet import Part, Trainings


class Asleep(NamedTuple):
    """What belongs to the runs that are asleep, put aside.

    They take part in the step's products, so that those keep their shape, and are put back afterwards.

    Attributes:
        places: Which runs.
        kept: Views of what belongs to a number of runs, the rows in them of those asleep, and copies of these.
    """

    places: Tensor
    kept: list[tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def of(cls, runs: Trainings, awake: Any, views: Callable[[Part], Iterable[Tensor]]) -> Asleep:
        """All runs but those that are awake.

        Args:
            runs: All of them.
            awake: One truth value per run.
            views: All that changes in a part with a step, with one row per run.
        """
        places = torch.from_numpy(np.flatnonzero(~np.asarray(awake, bool))).to(runs.healthy.device)
        kept = [(runs.healthy, places, runs.healthy[places])]
        for part in runs.parts:
            inside = places[(places >= part.first) & (places < part.first + part.runs)] - part.first
            if len(inside):
                kept += [(view, inside, view[inside]) for view in views(part)]
        return cls(places, kept)

    def put_back(self, runs: Trainings) -> None:
        """Leave the runs as if there had been no step, with the batch that it used as their next one."""
        for view, rows, copy in self.kept:
            view[rows] = copy
        used, last = runs.place - 1, runs.ahead[-1, self.places].cpu().numpy()
        runs.ahead[used + 1 :, self.places] = runs.ahead[used:-1, self.places]
        for place, rows in zip(self.places.tolist(), last, strict=True):
            runs.orders[place].put_back(rows)
