"""Many independent pieces of work in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing.connection import wait as wait_for
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from concurrent.futures import Future

T = TypeVar("T")
U = TypeVar("U")

TRAINING = ("surefoot.networks", "surefoot.stacked")
"""Modules that bring PyTorch along."""

DEATHS = 3
"""How often worker processes may die under the work before it is given up."""


def in_processes(
    function: Callable[[T], U],
    items: Sequence[T],
    *,
    workers: int,
    on_interrupt: Callable[[], None] = lambda: None,
    preload: Sequence[str] = TRAINING,
) -> Generator[tuple[T, U], None, None]:
    """Yield `(item, function(item))` as they are finished.

    A worker that is killed costs what it was doing: the unfinished items are begun again. The first Ctrl-C lets the items that
    are under way be finished and yielded; then, and at once at the second, KeyboardInterrupt is raised. Workers end with this
    process, however it ends.

    Args:
        function: What to do; a function of a module.
        items: What to do it with; like the results, they travel by pickle.
        workers: Number of processes, 1 or more. Each keeps to one thread.
        on_interrupt: Called at the first Ctrl-C.
        preload: Modules that are imported once, not once per worker, because that takes long.

    Raises:
        BrokenProcessPool: Workers died more than `DEATHS` times.
        KeyboardInterrupt: Ctrl-C was pressed.
        Exception: Whatever `function` raises.
    """
    left, deaths = list(items), 0
    while left:
        try:
            for item, result in _in_one_pool(function, left, workers, on_interrupt, preload):
                left.remove(item)
                yield item, result
        except BrokenProcessPool:
            deaths += 1
            if deaths > DEATHS:
                raise


def _in_one_pool(
    function: Callable[[T], U], items: Sequence[T], workers: int, on_interrupt: Callable[[], None], preload: Sequence[str]
) -> Iterator[tuple[T, U]]:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    others = set(multiprocessing.active_children())
    context.set_forkserver_preload(list(preload))
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=settle, initargs=(tuple(preload),))
    futures: dict[Future[U], T] = {}
    is_interrupted = is_over = False
    try:
        futures.update((pool.submit(function, item), item) for item in items)
        pending = set(futures)
        while pending:
            try:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:
                if is_interrupted:
                    raise
                is_interrupted = True
                pending = {future for future in pending if not future.cancel()}
                on_interrupt()
                continue
            for future in done:
                yield futures[future], future.result()
        is_over = True
    finally:
        if not is_over:  # Nobody waits for what the workers do any more, and an orderly end of the pool would.
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
        # Not without waiting: Python's own exit would write to the pool's pipe while the pool's thread closes it.
        pool.shutdown(wait=True, cancel_futures=True)
    if is_interrupted:
        raise KeyboardInterrupt


def settle(preload: Sequence[str]) -> None:
    """Make a new worker keep to one thread, leave Ctrl-C to its parent, and end when its parent does."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in preload:
        import_module(name)
    threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
