"""What a worker takes."""

from __future__ import annotations

import psutil


def resident() -> int:
    """Bytes of memory that this process has, and all those that it started, and they."""
    here = psutil.Process()
    total = here.memory_info().rss
    for process in here.children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return int(total)
