"""A training as it is told while it goes on: a table that lives in a terminal, lines everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.progress_bar import ProgressBar

from surefoot import tables
from surefoot.engine import Failed, Lost
from surefoot.event_log import EventLog
from surefoot.standing import clock
from surefoot.telling import lives
from surefoot.terminal import err, say

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from rich.table import Table

    from surefoot.course.processes import Due
    from surefoot.engine import Event
    from surefoot.learn import Record
    from surefoot.running import Running

_BARS = "\N{LOWER ONE EIGHTH BLOCK}▂▃▄▅▆▇\N{FULL BLOCK}"
_WIDTH = 24


class Telling:
    """Tells where trainings stand, on standard error, and in a file what happens to their rounds.

    Raises:
        ValueError: The log cannot be written to.
    """

    def __init__(self, running: Running, seeds: Iterable[int], of: int) -> None:
        self.records: dict[int, Record] = {}
        self._seeds, self._of, self._is_quiet = list(seeds), of, running.quiet
        self._live = Live(console=err, refresh_per_second=4) if lives(running) else None
        self._log = EventLog(running.log, _name)

    def __enter__(self) -> Self:
        self._log.__enter__()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
        self._log.__exit__(kind, error, traceback)

    def note(self, event: Event) -> None:
        """Note down what happened to a round, and say so if it failed or was lost."""
        self._log.tell(event)
        if isinstance(event, Failed):
            say(f"surefoot: {_name(event.item)}: {event.why}")
        elif isinstance(event, Lost) and not self._is_quiet:
            say(f"{_name(event.item)}: begun again, its worker was lost ({event.why})")

    def tell(self, record: Record, *, is_new: bool = True) -> None:
        """Tell where the training of a seed stands; what is not new is only shown in the table."""
        self.records[record.seed] = record
        if self._live is not None:
            self._live.update(self._table())
        elif is_new and not self._is_quiet:
            say(line(record))

    def _table(self) -> Table:
        table = tables.plain("seed", "", "round", "reward", "curve", "diverged", "behind", "best", "time")
        for seed in self._seeds:
            record = self.records.get(seed)
            if record is None:
                table.add_row(str(seed), ProgressBar(self._of, 0, width=12), f"0/{self._of}")
                continue
            last = record.curve[-1]
            table.add_row(
                str(seed),
                ProgressBar(record.of, record.done, width=12),
                f"{record.done}/{record.of}",
                f"{last['reward']:.3f}",
                sparks([each["reward"] for each in record.curve]),
                f"{last['diverged']} of {last['episodes']}",
                _behind(record),
                f"{record.best['score']:+.3f}" if record.best else "",
                clock(record.seconds),
            )
        return table


def line(record: Record) -> str:
    """Where a training stands, in a line."""
    last = record.curve[-1]
    told = (
        f"seed {record.seed}: round {record.done}/{record.of}, reward {last['reward']:.3f}, "
        f"{last['diverged']} of {last['episodes']} episodes diverged, {clock(record.seconds)}"
    )
    check = last.get("check")
    return told if check is None else f"{told}; behind the tuned schedule by {check['mean']:+.3f}, {check['diverged']} diverged"


def sparks(values: list[float]) -> str:
    """A curve in one line of text, the last values if there are many.

    >>> sparks([0.0, 1.0, 2.0, 7.0])
    '▁▂▃█'
    """
    shown = values[-_WIDTH:]
    low, high = min(shown), max(shown)
    return "".join(_BARS[int((len(_BARS) - 1) * (value - low) / ((high - low) or 1.0))] for value in shown)


def _behind(record: Record) -> str:
    checks: list[Any] = [each["check"] for each in record.curve if "check" in each]
    return f"{checks[-1]['mean']:+.3f}" if checks else ""


def _name(due: Due) -> str:
    return f"seed {due.seed}, round {due.kept.rounds + 1}"
