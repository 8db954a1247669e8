"""A worker as its supervisor sees it: a process, the line to it, and what it is at."""

from __future__ import annotations

import signal
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from surefoot.engine.worker import BEGAN, DIED, DONE, WRONG, work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surefoot.engine.protocol import Limits
    from surefoot.engine.worker import Orders


class Process:
    """A process that does what it is given.

    Attributes:
        line: Over which it tells.
        slot: Its place, which the next one takes.
        left: Its items that have not ended, by number, in their order.
        at: The number of the item that it is at; None before it has said so.
        over: Why it was killed from here, if its item went over a limit.
        is_unused: Whether it has not begun anything.
        done: How many of its items have ended.

    Args:
        context: How to start it.
        orders: What it does.
        slot: Its place.
    """

    def __init__(self, context: Any, orders: Orders, slot: int) -> None:
        self.line, end = context.Pipe()
        self.slot, self.done = slot, 0
        self.left: dict[int, Any] = {}
        self.at: int | None = None
        self.over, self.is_unused = "", True
        self._why = ""
        self._born = self._began = self._heard = monotonic()
        self._process = context.Process(target=work, args=(orders, end), daemon=False)
        self._process.start()
        end.close()

    @property
    def pid(self) -> int:
        """That of the operating system."""
        return int(self._process.pid)

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return monotonic() - self._born

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return not self._process.is_alive()

    def give(self, batch: Sequence[tuple[int, Any]]) -> None:
        """Have it work on items, numbered; it must have come to the end of those before, or both could wait for each other."""
        assert not self.left
        self.left = dict(batch)
        with suppress(OSError):  # It is dead: that will be heard.
            self.line.send(batch)

    def hear(self) -> Iterator[tuple[Any, ...]]:
        """What it has said since; EOFError when it will not say anything any more."""
        while self.line.poll():
            said = self.line.recv()
            self._heard = monotonic()
            if said[0] == BEGAN:
                self.at, self._began, self.is_unused = said[1], self._heard, False
            elif said[0] in (DONE, WRONG):
                self.at, self.done = None, self.done + 1
            elif said[0] == DIED:
                self._why = said[1]
                continue
            yield said

    def check(self, limits: Limits, resident: int = 0) -> None:
        """Kill it if it goes over a limit, or has been silent for too long."""
        now = monotonic()
        if limits.memory is not None and resident > limits.memory:
            self._kill(over=f"it took {resident:,} bytes of memory, and may take {limits.memory:,}")
        elif limits.seconds is not None and self.at is not None and now - self._began > limits.seconds:
            self._kill(over=f"it took longer than {limits.seconds:g} seconds")
        elif now - self._heard > limits.silence:
            self._why = f"silent for {limits.silence:g} seconds"
            self._kill()

    def forgive(self, seconds: float) -> None:
        """Leave so many seconds out of account."""
        self._heard += seconds
        self._began += seconds

    def patience(self, limits: Limits) -> float:
        """In how many seconds it has to be looked at, whether it speaks or not."""
        now = monotonic()
        late = self._heard + limits.silence - now
        if limits.seconds is not None and self.at is not None:
            late = min(late, self._began + limits.seconds - now)
        return max(late, 0.0)

    def stop(self) -> None:
        """Let it finish its item, and no other."""
        with suppress(OSError):
            self.line.send([])

    def bury(self) -> str:
        """Wait for its end, and say how it came to it."""
        self.line.close()
        self._process.join()
        return self._why or ending(self._process.exitcode)

    def close(self) -> None:
        """Kill it."""
        self._kill()
        self.bury()

    def _kill(self, over: str = "") -> None:
        self.over = self.over or over
        self._process.kill()


def ending(code: int) -> str:
    """How a process ended, as part of a sentence.

    >>> ending(-9), ending(1)
    ('killed by signal 9 (SIGKILL)', 'exit code 1')
    """
    return f"killed by signal {-code} ({_signal(-code)})" if code < 0 else f"exit code {code}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
