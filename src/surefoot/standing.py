"""Where work stands: how much of it is done, how fast, and the best so far; and the table that shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

SHOWN = 10
"""Parts of the work that the table shows at most: those in which something happened last."""
_MINUTE, _HOUR = 60, 3600


@dataclass
class Part:
    """A part of the work that people have a name for.

    Attributes:
        of: How many pieces it has; None if that is not known.
        done: How many of them are done.
        running: How many are under way.
        best: The lowest figure so far, and whose it is.
    """

    of: int | None = None
    done: int = 0
    running: int = 0
    best: tuple[float, str] | None = None


@dataclass
class Standing:
    """Where all of the work stands.

    Attributes:
        heading: What parts are told apart by.
        of: How many pieces there are; None if that is not known.
        there: How many were done before.
        finished, failed, lost: How many were since, and how often one was begun again.
        parts: By name.
        clock: Tells seconds that only go on.
    """

    heading: str
    of: int | None = None
    there: int = 0
    finished: int = 0
    failed: int = 0
    lost: int = 0
    parts: dict[str, Part] = field(default_factory=dict)
    clock: Callable[[], float] = monotonic

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._latest: dict[str, None] = {}

    def part(self, name: str) -> Part:
        """A part in which something happens now."""
        self._latest.pop(name, None)
        self._latest[name] = None
        return self.parts.setdefault(name, Part())

    @property
    def done(self) -> int:
        """How many pieces are done, those from before among them."""
        return self.there + self.finished

    @property
    def elapsed(self) -> float:
        """Seconds since this began."""
        return self.clock() - self._began

    @property
    def per_minute(self) -> float:
        """How many pieces are finished in a minute."""
        return 60.0 * self.finished / max(self.elapsed, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take if it goes on like this; None if that cannot be said."""
        if self.of is None or not self.finished:
            return None
        return max(0, self.of - self.done - self.failed) * self.elapsed / self.finished

    def table(self) -> RenderableType:
        """Both tables: the sums, and the parts in which something happened last."""
        return Group(self._sums(), self._parts())

    def _sums(self) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in ("finished", "running", "failed", "retried", "per minute", "elapsed", "time left"):
            table.add_column(heading, justify="right", no_wrap=True)
        running = sum(part.running for part in self.parts.values())
        table.add_row(
            f"{self.done:,}" if self.of is None else f"{self.done:,} of {self.of:,}",
            f"{running:,}",
            f"[bold red]{self.failed:,}[/]" if self.failed else "0",
            f"{self.lost:,}",
            f"{self.per_minute:,.3g}" if self.per_minute < 1000 else f"{self.per_minute:,.0f}",  # noqa: PLR2004
            clock(self.elapsed),
            "" if self.left is None else clock(self.left),
        )
        return table

    def _parts(self) -> Table:
        latest = set(list(self._latest)[-SHOWN:])
        table = Table(self.heading, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.columns[0].no_wrap = True
        table.add_column("done", justify="right", no_wrap=True)
        has_bars = any(self.parts[name].of for name in latest)
        has_best = any(self.parts[name].best for name in latest)
        if has_bars:
            table.add_column("", width=12)
        if has_best:
            table.add_column("best so far", no_wrap=True)
            table.add_column("whose")  # The one column that gives way.
        for name, part in self.parts.items():
            if name in latest:
                table.add_row(*_row(name, part, has_bars=has_bars, has_best=has_best), style="" if part.running else "dim")
        if len(self.parts) > len(latest):
            table.add_row(f"and {len(self.parts) - len(latest):,} more", style="dim")
        return table


def _row(name: str, part: Part, *, has_bars: bool, has_best: bool) -> list[Any]:
    row: list[Any] = [name, f"{part.done:,}" if part.of is None else f"{part.done:,}/{part.of:,}"]
    if has_bars:
        row.append("" if part.of is None else ProgressBar(part.of, part.done, width=12))
    if has_best:
        row += (
            ["", ""] if part.best is None else [f"{part.best[0]:#.4g}", Text(part.best[1], no_wrap=True, overflow="ellipsis")]
        )
    return row


def clock(seconds: float) -> str:
    """Seconds for people.

    >>> clock(59.9), clock(3600), clock(100_000)
    ('0:59', '1:00:00', '27:46:40')
    """
    hours, rest = divmod(int(seconds), _HOUR)
    minutes, seconds = divmod(rest, _MINUTE)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
