"""The tasks of a cluster for one function, as whoever waits for them sees them."""

from __future__ import annotations

import pickle
from collections import deque
from dataclasses import dataclass
from functools import partial
from math import ceil
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from surefoot.engine.cluster_work import AT_ONCE, LONG, Orders, kill, too_long, work_on
from surefoot.engine.pace import Pace
from surefoot.engine.protocol import Began, Failed, Finished, Lost, WorkError
from surefoot.engine.worker import DIED, WRONG, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surefoot.engine.protocol import Event, Limits

T = TypeVar("T")

LOOK = 5.0
"""Seconds after which the cluster is looked at again: nodes come and go."""
GRACE = 10.0
"""Seconds that a worker has to end by itself what took too long; then it is ended from here."""
_CLOSING = 10.0
_SPACE = b"surefoot"


@dataclass(eq=False)
class Flight:
    """A batch that was handed to Ray.

    Attributes:
        stream: Over which its worker tells.
        items: Its items, by number, in their order.
        note: Where its worker writes which item went over a limit.
        place: Its worker; nothing before it has begun.
        node: Where that is.
        began: When that was.
        over: Why it was ended from here.
    """

    stream: Any
    items: dict[int, Any]
    note: bytes
    place: str = ""
    node: str = ""
    began: float = 0.0
    over: str = ""


class RayPool(Generic[T]):
    """Tasks of Ray for one function: see `surefoot.engine.protocol.Pool`.

    Ray itself begins nothing again. It would do so without a word, without end for tasks that were killed because memory was
    short, and for those that went over a limit as well.

    Args:
        ray: The module, connected.
        function: What to do.
        limits: What an item may take.
        preload: Modules that a worker imports once.
        path: Where else workers look for modules.
        most: Tasks at once at most; as many as the cluster has room for if 0.
    """

    def __init__(
        self, ray: Any, function: Callable[[T], Any], limits: Limits, preload: Sequence[str], *, path: Sequence[str], most: int
    ) -> None:
        self._ray, self._limits, self._most = ray, limits, most
        self._dumps = ray.cloudpickle.dumps
        self._orders = ray.put(self._dumps(Orders(self._dumps(function), tuple(preload), limits, tuple(path))))
        needs = {"num_cpus": limits.cpus, "num_gpus": limits.gpus}
        self._task = ray.remote(work_on).options(**needs, max_retries=0, retry_exceptions=False, num_returns="streaming")
        self._queue: deque[tuple[int, T]] = deque()
        self._flights: dict[Any, Flight] = {}
        self._submitted = self._ended = self._flown = 0
        self._deaths: dict[int, int] = {}
        self._pace, self._name = Pace(AT_ONCE), uuid4().hex
        self._is_stopping = False
        self._looked, self._places = -LOOK, 1

    @property
    def room(self) -> int:
        """How many more items are wanted: as many as give every worker another batch."""
        return self._at_once() * self._pace.batch - len(self._queue)

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
        self._launch()
        if not self._flights:
            sleep(seconds if self.pending else 0.0)
            return []
        streams = list(self._flights)
        ready, _ = self._ray.wait(streams, num_returns=1, timeout=seconds, fetch_local=False)
        if ready:
            ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=0, fetch_local=False)
        events = [event for stream in ready for event in self._heard(self._flights[stream])]
        for flight in self._flights.values():
            self._check(flight)
        self._launch()
        return events

    def stop(self) -> None:
        """Forget what has not begun."""
        self._is_stopping = True
        self._ended += len(self._queue)
        self._queue.clear()
        for flight in self._flights.values():
            if not flight.place:
                self._ray.cancel(flight.stream)

    def close(self) -> None:
        """Kill the workers of whatever is left."""
        for stream in self._flights:
            self._ray.cancel(stream, force=True)
        until = monotonic() + _CLOSING
        while self._flights and monotonic() < until:
            ready, _ = self._ray.wait(list(self._flights), num_returns=1, timeout=1.0, fetch_local=False)
            for stream in ready:
                if self._is_over(stream):
                    del self._flights[stream]
        self._flights.clear()

    def _is_over(self, stream: Any) -> bool:
        try:
            return self._ray.get(next(stream)) is None
        except (StopIteration, self._ray.exceptions.RayError):
            return True

    def _at_once(self) -> int:
        """How many tasks the cluster has room for, at least 1: nodes may come."""
        if monotonic() - self._looked > LOOK:
            there = self._ray.cluster_resources()
            places = int(there.get("CPU", 0.0) // self._limits.cpus)
            if self._limits.gpus:
                places = min(places, int(there.get("GPU", 0.0) / self._limits.gpus + 1e-9))
            self._looked, self._places = monotonic(), max(1, min(places, self._most or places))
        return self._places

    def _launch(self) -> None:
        """Hand batches to Ray, a few more than it has room for, so that no worker waits for us."""
        places = self._at_once()
        flights = min(self._most or places * 2, places + 1 + places // 8)
        while self._queue and len(self._flights) < flights:
            count = min(self._pace.batch, ceil(len(self._queue) / places))
            batch = [self._queue.popleft()]
            while len(batch) < count and batch[0][0] not in self._deaths and self._queue[0][0] not in self._deaths:
                batch.append(self._queue.popleft())
            self._flown += 1
            note = f"{self._name}/{self._flown}".encode()
            pickled = [self._dumps(item) for _, item in batch]
            stream = self._task.remote(self._orders, pickled, partial(leave_note, note))
            self._flights[stream] = Flight(stream, dict(batch), note)

    def _check(self, flight: Flight) -> None:
        """End a worker that has not ended by itself what takes too long, as it cannot if it is stopped."""
        limit = self._limits.seconds
        if limit is not None and flight.place and monotonic() - flight.began > limit + LONG + GRACE and not flight.over:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            flight.over = too_long(limit)
            # Not by `ray.cancel`, which asks the worker: one that is stopped does not listen.
            there = NodeAffinitySchedulingStrategy(flight.node, soft=False)
            self._ray.remote(kill).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(flight.place)

    def _heard(self, flight: Flight) -> list[Event]:
        """What the worker of a batch said."""
        try:
            said = self._ray.get(next(flight.stream))
        except self._ray.exceptions.RayTaskError as error:
            # Not of an item, but of what comes before, and of any other item as well: the function cannot be imported there.
            raise WorkError(f"a worker of the cluster cannot begin: {sentence(error.cause)}") from error
        except self._ray.exceptions.TaskCancelledError:
            if not flight.over:
                self._back(self._landed(flight))
                return []
            return self._crashed(flight, flight.over)
        except (StopIteration, self._ray.exceptions.RayError) as error:
            return self._crashed(flight, self._cause(error))
        if not flight.place:
            (flight.place, flight.node), flight.began = said, monotonic()
            return [Began(next(iter(flight.items.values())), flight.place)]
        return self._done(flight, said)

    def _done(self, flight: Flight, ends: Sequence[tuple[Any, ...]]) -> list[Event]:
        """What came of a batch; what there was no time for goes back."""
        events: list[Event] = []
        items = self._landed(flight)
        for place, ((number, item), end) in enumerate(zip(list(items.items()), ends, strict=False)):
            if place:
                events.append(Began(item, flight.place))
            if end[0] == DIED:
                again = {number: item}
                events += self._died(again, end[1])
                if not again:
                    del items[number]
                continue
            events.append(self._end(item, *end))
            self._deaths.pop(number, None)
            self._ended += 1
            del items[number]
        self._back(items)
        return events

    def _end(self, item: T, word: str, *said: Any) -> Event:
        """What came of an item."""
        if word == WRONG:
            return Failed(item, *said)
        result, seconds = said
        self._pace.take(seconds)
        return Finished(item, pickle.loads(result), seconds)  # noqa: S301 - from our own worker

    def _crashed(self, flight: Flight, why: str) -> list[Event]:
        """A batch whose worker is gone: who went over a limit is known; else each is begun again alone, unless too often."""
        events: list[Event] = []
        items = self._landed(flight)
        place, note = self._note(flight)
        if note:
            number = list(items)[place]
            events.append(self._give_up(number, items.pop(number), note))
        elif flight.over and len(items) == 1:
            events += [self._give_up(number, items.pop(number), flight.over) for number in list(items)]
        else:
            events += self._died(items, why)
        self._back(items)
        return events

    def _died(self, items: dict[int, T], why: str) -> list[Event]:
        """Count a death for each of the items, and give up those that died too often; together with others does not count."""
        events: list[Event] = []
        for number, item in list(items.items()):
            deaths = self._deaths[number] = self._deaths.get(number, 0) + (len(items) == 1)
            if deaths > self._limits.retries:
                often = f"its worker died {deaths} times, at last {why} (is there memory enough?)"
                events.append(self._give_up(number, items.pop(number), often))
            elif not self._is_stopping:
                events.append(Lost(item, why))
        return events

    def _give_up(self, number: int, item: T, why: str) -> Event:
        self._ended += 1
        self._deaths.pop(number, None)
        return Failed(item, why)

    def _landed(self, flight: Flight) -> dict[int, T]:
        """The items of a batch that is over."""
        del self._flights[flight.stream]
        return dict(flight.items)

    def _back(self, items: dict[int, T]) -> None:
        """Put items back where they were, or forget them."""
        if self._is_stopping:
            self._ended += len(items)
        else:
            self._queue.extendleft(reversed(items.items()))

    def _note(self, flight: Flight) -> tuple[int, str]:
        """Which of the items went over a limit, and how, if one did."""
        if self._limits.seconds is None and self._limits.memory is None:
            return 0, ""
        from ray.experimental import internal_kv

        said = internal_kv._internal_kv_get(flight.note, namespace=_SPACE)  # noqa: SLF001 - Ray's own libraries call it
        if said is None:
            return 0, ""
        internal_kv._internal_kv_del(flight.note, namespace=_SPACE)  # noqa: SLF001 - the same
        place, _, why = said.decode().partition(" ")
        return int(place), why

    def _cause(self, error: Exception) -> str:
        errors = self._ray.exceptions
        if isinstance(error, errors.OutOfMemoryError):
            return "killed because its node was short of memory"
        if isinstance(error, errors.NodeDiedError | errors.ObjectLostError):
            return "with its node"
        return "killed or crashed" if isinstance(error, errors.WorkerCrashedError) else f"with {type(error).__name__}"


def leave_note(note: bytes, place: int, why: str) -> None:
    """Write for whoever waits which item of a batch went over a limit, where the cluster keeps it when this process ends."""
    from ray.experimental import internal_kv

    internal_kv._internal_kv_put(note, f"{place} {why}".encode(), namespace=_SPACE)  # noqa: SLF001 - Ray's own libraries call it
