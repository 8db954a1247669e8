"""What the process of a local worker does: one item after another, with a sign of life now and then."""

from __future__ import annotations

import os
import threading
import traceback
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot.engine.protocol import WorkerDiedError
from surefoot.engine.settling import settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

BEGAN, DONE, WRONG, DIED, ALIVE = "began", "done", "wrong", "died", "alive"
"""What a worker says first: which item it begins, what came of it, how it went wrong, or why the worker ends with a process
that it needed; or that it is alive, and how large."""


class Orders(NamedTuple):
    """What a worker has to know besides its items.

    Attributes:
        function: What to do.
        preload: Modules to import first.
        threads: How many it may have.
        beat: Seconds from one sign of life to the next.
        devices: Numbers of the GPUs it may see, with commas between; all if None.
    """

    function: Callable[[Any], Any]
    preload: tuple[str, ...]
    threads: int
    beat: float
    devices: str | None


def work(orders: Orders, line: Connection) -> None:
    """Do what is ordered to the items that come over the line, in batches, and tell of each; an empty batch is the end of it.

    Args:
        orders: What to do.
        line: To the supervisor.
    """
    lock, is_over = threading.Lock(), threading.Event()

    def tell(*words: Any) -> None:
        message = ForkingPickler.dumps(words)
        with lock:
            line.send_bytes(message)

    if orders.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = orders.devices
    # Before anything is imported: that takes long, too.
    threading.Thread(target=_keep_alive, args=(tell, orders.beat, is_over), daemon=True).start()
    settle(orders.preload, threads=orders.threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError, WorkerDiedError):  # Nobody listens, or it has been told.
        while batch := line.recv():
            for number, item in batch:
                if line.poll():
                    return  # What has come can only be the end of it.
                tell(BEGAN, number)
                _do(orders.function, number, item, tell)
    is_over.set()


def _do(function: Callable[[Any], Any], number: int, item: Any, tell: Callable[..., None]) -> None:
    began = perf_counter()
    try:
        tell(DONE, number, function(item), perf_counter() - began)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except WorkerDiedError as error:
        tell(DIED, f"because {error}")
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told where it can be read
        tell(WRONG, number, sentence(error), traceback.format_exc())


def sentence(error: BaseException) -> str:
    """What went wrong, in a few words: the message alone where it is meant for people.

    >>> sentence(ValueError("steps must be above 0")), sentence(KeyError("a"))
    ('steps must be above 0', "KeyError: 'a'")
    """
    said = str(error)
    return said if said and isinstance(error, (RuntimeError, ValueError, OSError)) else f"{type(error).__name__}: {error}"


def _keep_alive(tell: Callable[..., None], beat: float, is_over: threading.Event) -> None:
    from surefoot.engine.watching import resident

    while not is_over.wait(beat):
        try:
            tell(ALIVE, resident())
        except OSError:
            return
