"""Networks stacked: many trainings of one at once."""

from surefoot.stacked.fleet import NetworkFleet, Part, Trainings

__all__ = ["NetworkFleet", "Part", "Trainings"]
