"""How a process makes itself at home as a worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from importlib import import_module
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


_PRELOADED: set[str] = set()
"""What servers of this process were asked to import so far."""


def context(preload: Sequence[str] = ()) -> Any:
    """How processes are started here: forked from a server that has imported the modules, so that this is not done for each.

    Where there is no such server, as on Windows, they start from nothing.
    """
    methods = multiprocessing.get_all_start_methods()
    made: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if not set(preload) <= _PRELOADED:
        _PRELOADED.update(preload)
        # A server that runs imports nothing more, so that each of its processes would. Where none is left, another may come.
        if made.get_start_method() == "forkserver" and not multiprocessing.active_children():
            import_module("multiprocessing.forkserver")._forkserver._stop()  # noqa: SLF001 - as CPython's own tests do
    made.set_forkserver_preload(sorted(_PRELOADED))
    return made


def settle(preload: Sequence[str], *, threads: int = 1) -> None:
    """Make this process import modules, keep to so many threads, leave Ctrl-C to its parent, and end when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_to(threads, preload)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def keep_to(threads: int, preload: Sequence[str] = ()) -> None:
    """Import modules, and let what they compute with use so many threads."""
    from threadpoolctl import threadpool_limits

    os.environ["OMP_NUM_THREADS"] = str(threads)  # For what is imported later.
    for name in preload:
        import_module(name)
    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
