"""Where work is done: processes of this machine, or a cluster."""

from surefoot.engine.group import on_ranks
from surefoot.engine.local import Local
from surefoot.engine.perform import perform
from surefoot.engine.protocol import (
    TRAINING,
    Actor,
    Began,
    Engine,
    Event,
    Failed,
    Finished,
    Limits,
    Lost,
    Pool,
    WorkerDiedError,
    WorkError,
)

__all__ = [
    "TRAINING",
    "Actor",
    "Began",
    "Engine",
    "Event",
    "Failed",
    "Finished",
    "Limits",
    "Local",
    "Lost",
    "Pool",
    "WorkError",
    "WorkerDiedError",
    "on_ranks",
    "perform",
]
