"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: str | Path, content: bytes, *, lasting: bool = False) -> Path:
    """Write a file, all of it or nothing, and return its path.

    Whoever reads it meanwhile, and whenever the process is killed, the file is the one of before or the new one. A process that
    is killed can leave a file `.NAME.*` behind, which nobody reads.

    Args:
        path: The file, replaced if it is there; its folder exists.
        content: What it shall hold.
        lasting: Whether to wait until it is on the disk, so that it outlasts a machine that loses its power.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    # Not named after the process alone: another machine that writes to this folder may have one of the same number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def remove(path: str | Path) -> None:
    """Remove a file that `write` wrote, if it is there, and what killed processes left of it."""
    path = Path(path)
    for file in [path, *path.parent.glob(f".{path.name}.*")]:
        file.unlink(missing_ok=True)
