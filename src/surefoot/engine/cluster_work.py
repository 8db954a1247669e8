"""What a worker of a cluster does: a batch of items, one after another, and never longer than it may."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot.engine.protocol import WorkerDiedError
from surefoot.engine.settling import keep_to
from surefoot.engine.worker import DIED, DONE, WRONG, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from surefoot.engine.protocol import Limits

AT_ONCE = 1.0
"""Seconds that a batch shall take: Ray needs some milliseconds for each, and now and then seconds for a worker."""
LONG = 2 * AT_ONCE
"""Seconds after which a batch is handed back with what is left of it: its items take longer than those before did."""
_GLANCE = 0.2
_UNDER_WAY = 0.05
"""Seconds in which the driver hears who works here, before an item may stop this process as a whole."""


class Orders(NamedTuple):
    """What a worker has to know besides its items.

    Attributes:
        function: What to do, pickled, because the modules it is from may be found in `path` alone.
        preload: Modules to import first.
        limits: What an item may take.
        path: Where else to look for modules: where whoever gives the orders does.
    """

    function: bytes
    preload: tuple[str, ...]
    limits: Limits
    path: tuple[str, ...]


def work_on(orders: bytes, batch: Sequence[bytes], leave_note: Callable[[int, str], None]) -> Iterator[Any]:
    """Yield who works here and on which node, once that is settled; then, together, what came of the items it had time for.

    Args:
        orders: The pickled orders.
        batch: Items, pickled one by one.
        leave_note: Told of the item that goes over a limit, and how, before the process ends for it.
    """
    function, limits = _settled(orders)
    ray: Any = import_module("ray")
    yield f"{socket.gethostname()}:{os.getpid()}", ray.get_runtime_context().get_node_id()
    if limits.seconds is not None:
        sleep(_UNDER_WAY)
    began = monotonic()
    ends: list[tuple[Any, ...]] = []
    with Watch(limits, leave_note) as watch:
        for item in batch:
            if ends and monotonic() - began > LONG:
                break
            watch.begin(len(ends))
            ends.append(_end(function, item))
            watch.end()
    yield ends


@lru_cache(maxsize=1)
def _settled(orders: bytes) -> tuple[Callable[[Any], Any], Limits]:
    """Make the process at home, unless it was given the same orders the last time."""
    made: Orders = pickle.loads(orders)  # noqa: S301 - from our own driver
    sys.path += [place for place in made.path if place not in sys.path]
    keep_to(made.limits.cpus, made.preload)
    return pickle.loads(made.function), made.limits  # noqa: S301 - the same


def _end(function: Callable[[Any], Any], item: bytes) -> tuple[Any, ...]:
    """What comes of an item; both travel pickled, so that they are no views of memory that others share."""
    cloudpickle: Any = import_module("ray.cloudpickle")

    began = perf_counter()
    try:
        return DONE, cloudpickle.dumps(function(pickle.loads(item))), perf_counter() - began  # noqa: S301 - the same
    except WorkerDiedError as error:
        return DIED, f"because {error}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told where it can be read
        return WRONG, sentence(error), traceback.format_exc()


class Watch:
    """Looks at the process now and then, and ends it when an item goes over a limit.

    It leaves a note, and does not only interrupt the item: what is interrupted anywhere may leave locks and memory behind for
    the next.

    Args:
        limits: What an item may take.
        leave_note: Told which item goes over a limit, and how.
    """

    def __init__(self, limits: Limits, leave_note: Callable[[int, str], None]) -> None:
        self._limits, self._leave_note = limits, leave_note
        self._at: tuple[int, float] | None = None
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        if self._limits.seconds is not None or self._limits.memory is not None:
            threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def begin(self, number: int) -> None:
        """An item is begun."""
        self._at = (number, monotonic())

    def end(self) -> None:
        """It has ended."""
        self._at = None

    def _look(self) -> None:
        while not self._is_over.wait(min(_GLANCE, self._limits.seconds or _GLANCE)):
            at = self._at
            why = self._why(at[1]) if at is not None else ""
            if why and at is not None and at == self._at:
                with suppress(Exception):  # Without it, the item is begun again, and fails in the end.
                    self._leave_note(at[0], why)
                _end_with_children()

    def _why(self, began: float) -> str:
        from surefoot.engine.watching import resident

        limits = self._limits
        if limits.memory is not None and (taken := resident()) > limits.memory:
            return too_large(taken, limits.memory)
        is_late = limits.seconds is not None and monotonic() - began > limits.seconds
        return too_long(limits.seconds) if is_late else ""


def kill(worker: str) -> None:
    """End another worker of the same node, which may be stopped or stuck; it is named as `work_on` named it."""
    with suppress(ProcessLookupError):
        os.kill(int(worker.rpartition(":")[2]), signal.SIGKILL)


def too_large(taken: int, limit: int) -> str:
    """Why an item failed that took too much memory."""
    return f"it took {taken:,} bytes of memory, and may take {limit:,}"


def too_long(seconds: float | None) -> str:
    """Why an item failed that took too long."""
    return f"it took longer than {seconds:g} seconds"


def _end_with_children() -> None:
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(1)
