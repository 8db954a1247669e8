"""Work as it is told of while it goes on: a table that lives in a terminal, lines everywhere else, and a file."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live

from surefoot.engine import Began, Failed, Finished, Lost, WorkError
from surefoot.event_log import EventLog
from surefoot.standing import Part, Standing
from surefoot.terminal import FAILED, err, leave, say, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from rich.console import RenderableType

    from surefoot.engine import Event
    from surefoot.running import Running

PER_SECOND = 4
"""How often the table is drawn, however much happens."""


class Telling:
    """Tells of work on standard error, and in a file if one was asked for.

    What an engine tells goes to `tell`, and what is kept, thereafter, to `kept`. Items may be of several pieces that people
    count; pieces belong to parts that they have names for.

    Args:
        running: How much is wanted.
        heading: What parts are told apart by: `problem, optimizer`.
        name: What an item is called.
        part: Where it belongs.
        size: How many pieces it is of.
        best: The lowest figure among what came of it, and whose that is; nothing if it has none.
        of: How many pieces the parts have, as far as that is known beforehand.
        there: How many of them are done already.

    Raises:
        ValueError: The log cannot be written to.
    """

    def __init__(
        self,
        running: Running,
        heading: str,
        *,
        name: Callable[[Any], str],
        part: Callable[[Any], str],
        size: Callable[[Any], int] = lambda _item: 1,
        best: Callable[[Any, Any], tuple[float, str] | None] = lambda _item, _result: None,
        of: Mapping[str, int] | None = None,
        there: Mapping[str, int] | None = None,
    ) -> None:
        self._name, self._part, self._size, self._best = name, part, size, best
        before, total = there or {}, None if of is None else sum(of.values())
        parts = {part: Part(count, before.get(part, 0)) for part, count in (of or {}).items()}
        self.standing = Standing(heading, total, sum(before.values()), parts=parts)
        self._is_counting, self._is_quiet = of is not None, running.quiet
        self._log = EventLog(running.log, name)
        self._lock = Lock()
        self._live: Live | None = None
        if lives(running):
            self._live = Live(console=err, refresh_per_second=PER_SECOND, get_renderable=self._shown, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._log.__enter__()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
        self._log.__exit__(kind, error, traceback)

    def tell(self, event: Event) -> None:
        """Tell what happened to an item."""
        self._log.tell(event)
        size = self._size(event.item)
        with self._lock:
            part = self.standing.part(self._part(event.item))
            part.running = max(0, part.running + (size if isinstance(event, Began) else -size))
            if isinstance(event, Failed):
                self.standing.failed += size
            elif isinstance(event, Lost):
                self.standing.lost += 1
            elif isinstance(event, Finished) and self._live is not None:
                self._compare(part, event)
        if isinstance(event, Failed):
            say(f"surefoot: {self._name(event.item)}: {event.why}")
        elif isinstance(event, Lost) and self._live is None and not self._is_quiet:
            say(f"{self._name(event.item)}: begun again, its worker was lost ({event.why})")

    def kept(self, part: str, line: str) -> None:
        """Tell of a piece that is kept now."""
        with self._lock:
            self.standing.finished += 1
            self.standing.part(part).done += 1
        if self._live is None and not self._is_quiet:
            say(f"{self.standing.done}/{self.standing.of} {line}" if self._is_counting else line)

    def expect(self, left: int) -> None:
        """Say how many pieces are left, where that is known only on the way."""
        self.standing.of = self.standing.done + self.standing.failed + left

    def _compare(self, part: Part, event: Finished) -> None:
        found = self._best(event.item, event.result)
        if found is not None and (part.best is None or found[0] < part.best[0]):
            part.best = found

    def _shown(self) -> RenderableType:
        with self._lock:
            return self.standing.table()


def lives(running: Running) -> bool:
    """Whether there is a terminal in which a table can live, and whether one is wanted."""
    return err.is_terminal and not err.is_dumb_terminal and not running.quiet


@contextmanager
def leaving(running: Running, kept: Callable[[], str]) -> Iterator[None]:
    """Work that is stopped, or of which something failed, ends in a sentence that says what is kept and how to go on.

    Args:
        running: How it was told of.
        kept: What is kept, and where, as the beginning of a sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        stop(kept)
    except WorkError as error:
        if not error.failures:
            raise
        more = "--log FILE keeps tracebacks" if running.log is None else f"tracebacks are in {running.log}"
        leave(f"{error}. {kept()}; the same command tries the rest again ({more}).", FAILED, error)
