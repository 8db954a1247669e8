"""What an engine is: something that does one function to many items, wherever that happens, and tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from surefoot import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

A_contra = TypeVar("A_contra", contravariant=True)

TRAINING = ("surefoot.networks", "surefoot.stacked", "torch._dynamo")
"""Modules that bring PyTorch along, the last of which its first optimizer would import, in more than a second."""


@dataclass(frozen=True)
class Limits:
    """What an item may take, and how often it is begun again.

    Attributes:
        retries: How often an item is begun again whose worker died under it, 0 or more. What raises an exception, or goes over
            a limit, is not: it would again.
        seconds: Wall-clock time of one attempt, above 0; unlimited if None.
        memory: Bytes of memory of a worker and of the processes it started, 1 or more; unlimited if None.
        silence: Seconds without a sign of life after which a worker counts as dead, above 0.
        cpus: Processors that an item keeps busy, 1 or more: so many threads a worker may have.
        gpus: Share of a GPU that an item needs, 0 or more; above 1, a whole number of GPUs.

    Raises:
        TypeError: A limit is not a number.
        ValueError: A limit is outside its range.
    """

    retries: int = 3
    seconds: float | None = None
    memory: int | None = None
    silence: float = 120.0
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        checks.whole("retries", self.retries, low=0)
        checks.whole("cpus", self.cpus, low=1)
        for name in ("seconds", "silence"):
            value = getattr(self, name)
            if value is not None:
                checks.number(name, value)
                if value <= 0.0:
                    raise ValueError(f"{name} must be above 0, got {value}")
        if self.memory is not None:
            checks.whole("memory", self.memory, low=1)
        checks.number("gpus", self.gpus, low=0.0)
        if self.gpus > 1.0 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be a whole number, got {self.gpus}")


class Began(NamedTuple):
    """An item is under way.

    Attributes:
        item: Which.
        where: The worker, as a person would look for it: `host:process`.
    """

    item: Any
    where: str


class Finished(NamedTuple):
    """An item is done.

    Attributes:
        item: Which.
        result: What the function returned.
        seconds: Wall-clock time of the attempt that was finished.
    """

    item: Any
    result: Any
    seconds: float


class Lost(NamedTuple):
    """The worker of an item died; the item is begun again.

    Attributes:
        item: Which.
        why: How it died, as part of a sentence: `killed by signal 9`.
    """

    item: Any
    why: str


class Failed(NamedTuple):
    """An item is given up.

    Attributes:
        item: Which.
        why: What went wrong, as a sentence without its full stop.
        details: The traceback, or nothing.
    """

    item: Any
    why: str
    details: str = ""


Event = Began | Finished | Lost | Failed


class Pool(Protocol[A_contra]):
    """Workers that wait for items. Every item that is submitted ends as `Finished` or `Failed`, or is given back by `stop`."""

    @property
    def room(self) -> int:
        """How many items more are wanted, so that no worker has to wait; 0 or less if none are."""
        ...

    @property
    def pending(self) -> int:
        """How many items were submitted and have not ended."""
        ...

    def submit(self, item: A_contra) -> None:
        """Take on an item, which is begun when a worker is free; the earliest first."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """What has happened, as soon as anything has; nothing if that takes longer than so many seconds."""
        ...

    def stop(self) -> None:
        """Forget the items that have not begun; `pending` falls to 0 when those under way have ended."""
        ...

    def close(self) -> None:
        """Leave nothing behind that is still running, whatever it is at."""
        ...


class Actor(Protocol):
    """An object that lives in a worker, and dies with it."""

    def ask(self, method: str, *arguments: Any) -> None:
        """Have a method called; one call at a time."""
        ...

    def answer(self) -> Any:
        """What the method returned, as soon as it has.

        Raises:
            WorkerDiedError: The worker did.
            WorkError: The method raised an exception.
        """
        ...

    def close(self) -> None:
        """End the worker, whatever it is at."""
        ...


class Engine(Protocol):
    """Where items are worked on. It is used as a context: what it began for that ends with it.

    Whatever the engine, the same items give the same results, bit for bit on a CPU of one kind.
    """

    @property
    def name(self) -> str:
        """`local`, `ray` or another word by which people know it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def open(self, function: Callable[[A_contra], Any], limits: Limits, preload: Sequence[str]) -> Pool[A_contra]:
        """Workers for a function.

        Args:
            function: A function of a module, or a `functools.partial` of one; items and results travel by pickle.
            limits: What an item may take.
            preload: Names of modules that are imported before the function is called, if possible once for many workers.
        """
        ...

    def actor(self, make: Callable[..., Any], *arguments: Any, preload: Sequence[str] = TRAINING) -> Actor:
        """An object that `make(*arguments)` returns in a worker of its own."""
        ...


class WorkError(RuntimeError):
    """Some of the work could not be done; the message says what, and why.

    Attributes:
        failures: What was given up.
    """

    def __init__(self, message: str, failures: Sequence[Failed] = ()) -> None:
        super().__init__(message)
        self.failures = list(failures)


class WorkerDiedError(RuntimeError):
    """The worker of an actor died, and what the actor knew died with it; or a rank of a group. The message says how.

    A function that raises it in a worker takes the worker with it: its item is begun again.
    """
