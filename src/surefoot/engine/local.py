"""The engine of one machine: processes that are watched over by this one."""

from __future__ import annotations

import os
import socket
from collections import deque
from dataclasses import dataclass, field
from math import ceil
from multiprocessing.connection import wait as wait_for
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from surefoot import checks
from surefoot.engine.actors import ProcessActor
from surefoot.engine.pace import Pace
from surefoot.engine.processes import Process
from surefoot.engine.protocol import TRAINING, Began, Failed, Finished, Lost, WorkError
from surefoot.engine.settling import context
from surefoot.engine.worker import ALIVE, BEGAN, DONE, WRONG, Orders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from surefoot.engine.protocol import Actor, Event, Limits, Pool

T = TypeVar("T")

LIFE = 10.0
"""Seconds after which a process is not given another item."""
AT_ONCE = 0.5
"""Seconds that a process shall have work for, so that it does not wait for this one after every short item."""
MISSTARTS = 10
"""How many processes in a row may end before they begin anything, as they do when they, or their server, are killed."""
UNFIT = "exit code 1"
"""How a process ends that cannot import what it needs: another one could not, either."""
AWAY = 5.0
"""Seconds without a look after which it is this process that was absent."""


@dataclass(frozen=True)
class Local:
    """Processes of this machine, forked from a server that has imported what they need.

    A process is replaced after ten seconds, as soon as its item is done: items that take longer have one to themselves, and
    short ones share what it costs to begin. A worker that dies costs the item that it was at. Workers end with this process,
    however it ends.

    Attributes:
        workers: How many processes at once, 0 or more; one for each processor if 0.
        devices: Numbers of the GPUs for items that need some; those that PyTorch sees if None.

    Raises:
        TypeError: The number of workers is not a number.
        ValueError: It is below 0.
    """

    workers: int = 0
    devices: tuple[str, ...] | None = None
    name: str = field(default="local", init=False)

    def __post_init__(self) -> None:
        checks.whole("workers", self.workers, low=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """There is nothing to be ended: pools end with themselves."""

    def open(self, function: Callable[[T], Any], limits: Limits, preload: Sequence[str] = TRAINING) -> Pool[T]:
        """Workers for a function.

        Raises:
            ValueError: Items need more GPUs than there are.
        """
        slots: list[str | None] = [None] * max(1, (self.workers or os.cpu_count() or 1) // limits.cpus)
        if limits.gpus:
            slots = _shares(_visible() if self.devices is None else self.devices, limits.gpus)[: len(slots)]
        return LocalPool(function, limits, tuple(preload), slots)

    def actor(self, make: Callable[..., Any], *arguments: Any, preload: Sequence[str] = TRAINING) -> Actor:
        """An object in a process of its own."""
        return ProcessActor(make, arguments, preload)


class LocalPool(Generic[T]):
    """Processes for one function: see `surefoot.engine.protocol.Pool`.

    Args:
        function: What to do.
        limits: What an item may take.
        preload: Modules that are imported once.
        slots: A place for each process that there may be at once, with the GPUs that it may see, all if None.
    """

    def __init__(
        self, function: Callable[[T], Any], limits: Limits, preload: tuple[str, ...], slots: Sequence[str | None]
    ) -> None:
        beat = min(limits.silence / 4, 1.0 if limits.memory is None else 0.2)
        self._orders = [Orders(function, preload, limits.cpus, beat, devices) for devices in slots]
        self._limits, self._context = limits, context(preload)
        self._queue: deque[tuple[int, T]] = deque()
        self._processes: dict[int, Process] = {}
        self._leaving: list[Process] = []
        self._submitted = self._ended = self._misstarts = 0
        self._deaths: dict[int, int] = {}
        self._pace = Pace(AT_ONCE)
        self._is_stopping = False
        self._looked = monotonic()
        self._host = socket.gethostname()

    @property
    def room(self) -> int:
        """How many more items are wanted: as many as give every worker another batch."""
        return len(self._orders) * self._pace.batch - len(self._queue)

    @property
    def pending(self) -> int:
        """How many items have not ended."""
        return self._submitted - self._ended

    def submit(self, item: T) -> None:
        """Take on an item."""
        self._queue.append((self._submitted, item))
        self._submitted += 1

    def wait(self, seconds: float) -> list[Event]:
        """What has happened."""
        self._forgive()
        self._start()
        lines = {process.line: process for process in self._processes.values()}
        soonest = min((process.patience(self._limits) for process in lines.values()), default=seconds)
        events: list[Event] = []
        for line in wait_for(list(lines), min(seconds, soonest)):
            events += self._heard(lines[line])
        for process in self._processes.values():
            process.check(self._limits)
        self._start()
        self._looked = monotonic()
        return events

    def stop(self) -> None:
        """Forget what has not begun."""
        self._is_stopping = True
        self._ended += len(self._queue)
        self._queue.clear()
        for process in self._processes.values():
            process.stop()

    def close(self) -> None:
        """Kill whoever is left."""
        for process in (*self._processes.values(), *self._leaving):
            process.close()
        self._processes.clear()
        self._leaving.clear()

    def _forgive(self) -> None:
        """Hold nothing against workers that happened while nobody looked: they may have been stopped with this process."""
        away = monotonic() - self._looked
        if away > AWAY:
            for process in self._processes.values():
                process.forgive(away)

    def _start(self) -> None:
        """Give whoever is free a batch, and let those go who have been there for long."""
        self._let_go()
        for slot, orders in enumerate(self._orders):
            if not self._queue:
                return
            if slot not in self._processes:
                try:
                    self._processes[slot] = Process(self._context, orders, slot)
                except (OSError, EOFError) as error:
                    self._misstart(str(error))
                    return
            if not self._processes[slot].left:
                count = min(self._pace.batch, ceil(len(self._queue) / len(self._orders)))
                self._processes[slot].give([self._queue.popleft() for _ in range(count)])

    def _let_go(self) -> None:
        """End processes that are free and have been there for long, without waiting for their end."""
        for process in [process for process in self._processes.values() if not process.left and process.age > LIFE]:
            process.stop()
            self._leaving.append(self._processes.pop(process.slot))
        for process in [process for process in self._leaving if process.is_over]:
            process.bury()
            self._leaving.remove(process)

    def _misstart(self, why: str) -> None:
        self._misstarts += 1
        if self._misstarts > MISSTARTS or why == UNFIT:
            raise WorkError(
                f"processes end before they begin anything: {why} (what they say stands above; a script of your own must do "
                "its work under `if __name__ == '__main__':`, since each process reads it again)"
            )

    def _heard(self, process: Process) -> list[Event]:
        """What a process said."""
        events: list[Event] = []
        try:
            for word, *said in process.hear():
                if word == ALIVE:
                    process.check(self._limits, resident=said[0])
                elif word == BEGAN:
                    self._misstarts = 0
                    events.append(Began(process.left[said[0]], f"{self._host}:{process.pid}"))
                else:
                    events.append(self._end(process, word, *said))
        except (EOFError, OSError):
            events += self._buried(process)
        return events

    def _end(self, process: Process, word: str, number: int, *said: Any) -> Event:
        """An item that a process has come to the end of."""
        item = process.left.pop(number)
        self._ended += 1
        self._deaths.pop(number, None)
        if word == WRONG:
            return Failed(item, *said)
        assert word == DONE
        result, seconds = said
        if process.done > 1:  # The first one finds nothing in any cache.
            self._pace.take(seconds)
        return Finished(item, result, seconds)

    def _buried(self, process: Process) -> list[Event]:
        """A process that is over: what it had not begun goes back, and so does what it was at, unless that was too often."""
        del self._processes[process.slot]
        why, number = process.bury(), process.at
        if process.is_unused:
            self._misstart(why)
        events: list[Event] = []
        if number is not None:
            item = process.left[number]
            deaths = self._deaths[number] = self._deaths.get(number, 0) + 1
            if process.over or deaths > self._limits.retries:
                often = f"its worker died {deaths} times, at last {why} (is there memory enough?)"
                events.append(Failed(item, process.over or often))
                del process.left[number], self._deaths[number]
                self._ended += 1
            elif not self._is_stopping:
                events.append(Lost(item, why))
        if self._is_stopping:
            self._ended += len(process.left)
        else:
            self._queue.extendleft(reversed(process.left.items()))
        return events


def _visible() -> tuple[str, ...]:
    """The GPUs that PyTorch would see."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return tuple(number.strip() for number in told.split(",") if number.strip())
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


def _shares(devices: Sequence[str], gpus: float) -> list[str | None]:
    """The GPUs of every worker that there is room for.

    >>> _shares(["0", "1"], 0.5), _shares(["0", "1", "2", "3"], 2)
    (['0', '1', '0', '1'], ['0,1', '2,3'])
    """
    if gpus <= 1.0:
        return [device for _ in range(int(1.0 / gpus)) for device in devices] or _refuse(gpus, devices)
    each = int(gpus)
    wholes = [",".join(devices[first : first + each]) for first in range(0, len(devices) - each + 1, each)]
    return list(wholes) or _refuse(gpus, devices)


def _refuse(gpus: float, devices: Sequence[str]) -> list[str | None]:
    raise ValueError(f"an item needs {gpus:g} GPUs, and this machine shows {len(devices)}; ask for fewer, or for none")
