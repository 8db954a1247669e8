"""The folder where trainings that are under way keep how far they are, beside the file of those that are finished."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from surefoot.keeping import SECONDS, Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEVER = 1e12
"""Seconds from one checkpoint to the next, for those who only go on from what others keep."""


@contextmanager
def beside(path: str | Path) -> Iterator[Path | None]:
    """The folder of a file, which is made now and removed afterwards if nothing is left in it; None if it cannot be made.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as there, beside(f"{there}/runs.sqlite") as folder:
    ...     folder.name
    'runs.sqlite.under-way'
    """
    folder = Path(f"{path}.under-way").resolve()
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    try:
        yield folder if folder.is_dir() else None
    finally:
        with suppress(OSError):
            folder.rmdir()


def keeper(
    folder: Path | None, identity: str, *, seconds: float = SECONDS, clock: Callable[[], float] = perf_counter
) -> Keeper | None:
    """The keeper of a training in a folder, whose file is named after its identity; None if there is no folder.

    Args:
        folder: Where; whether it is there and can be written to is its own affair.
        identity: All that the training depends on.
        seconds: Time from one checkpoint to the next at least.
        clock: What time it is, in seconds.
    """
    if folder is None:
        return None
    return Keeper(folder / f"{sha256(identity.encode()).hexdigest()[:32]}.safetensors", identity, seconds=seconds, clock=clock)
