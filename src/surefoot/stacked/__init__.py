"""Networks stacked: many trainings of one at once."""

from surefoot.stacked.fleet import NetworkFleet, Trainings

__all__ = ["NetworkFleet", "Trainings"]
