"""How many runs of a fleet fit into memory, counted beforehand."""

from __future__ import annotations

import os
import warnings

_SPARE = 0.7


def at_once(
    name: str, runs: int, *, kept: int, working: int, capacity: int | None = None, device: str = "cpu", depth: int = 4
) -> int:
    """How many of so many runs can be worked on together; if that is not all of them, one warning says so.

    >>> at_once("wines", 8, kept=1_000, working=10_000, capacity=1_000_000)
    8

    Args:
        name: The fleet's name, for the message.
        runs: How many there are to be.
        kept: Bytes that each takes all the time.
        working: Bytes that each takes besides while it is worked on.
        capacity: Bytes that all of it may take, of which 30% stay free for what is not counted; None for those free in main
            memory.
        device: What the memory belongs to, for the message.
        depth: How many calls up the warning is to point: to whoever begins the fleet.

    Raises:
        MemoryError: What has to be kept of so many runs does not fit.
    """
    room, lasting = int(_SPARE * (free() if capacity is None else capacity)), runs * kept
    if lasting + working > room:
        most = max(0, (room - working) // kept)
        raise MemoryError(
            f"{runs} runs of {name} must find {_size(lasting + working)} of memory, and there are {_size(room)} "
            f"on {device} (train at most {most} at once)"
        )
    together = min(runs, (room - lasting) // working)
    if together < runs:
        warnings.warn(
            f"{runs} runs of {name} do not fit on {device} at once: worked on {together} by {together}", stacklevel=depth
        )
    return together


def free() -> int:
    """Bytes of main memory that are free."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Not every system says.
        return 2**63 - 1


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024.0:  # noqa: PLR2004 - the unit's own size
            return f"{count:.0f} {unit}"
        count /= 1024.0
    return f"{count:.1f} GiB"
