"""What policies would have done on a loss log that is there already."""

from surefoot.replay.folding import Replayed, replay

__all__ = ["Replayed", "replay"]
