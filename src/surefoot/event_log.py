"""What happens to pieces of work, in a file: a line for each event."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from surefoot.engine import Began, Failed, Finished, Lost
from surefoot.terminal import say, typed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from surefoot.engine import Event

_WORDS: dict[type, str] = {Began: "began", Finished: "finished", Lost: "lost", Failed: "failed"}


class EventLog:
    r"""A file that gets a JSON object on a line of its own for every event, at once; it is appended to.

    A line has `time` (UTC), `event` (`opened`, `began`, `finished`, `lost`, `failed` or `closed`), `what` (the piece of work;
    the command where the file is opened) and, where they are known, `where` (`host:process`), `seconds`, `why` and `details`,
    a traceback. Trouble with the file, such as a full disk, is said once, and stops nothing.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from surefoot.engine import Finished
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "log.jsonl")
    ...     with EventLog(path, str) as log:
    ...         log.tell(Finished("one", None, 0.5))
    ...     [json.loads(line)["event"] for line in path.read_text().splitlines()]
    ['opened', 'finished', 'closed']

    Args:
        path: The file, made if it is not there; nothing is written if None.
        name: What a piece of work is called.

    Raises:
        ValueError: It cannot be written to.
    """

    def __init__(self, path: Path | None, name: Callable[[Any], str]) -> None:
        self.path, self._name = path, name
        self._where: dict[int, str] = {}
        self._is_torn = self._is_in_trouble = False
        self._file: int | None = None
        if path is not None:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            except OSError as error:
                raise ValueError(f"the log {path} cannot be written: {error.strerror}; name another file") from error

    def __enter__(self) -> Self:
        self._write("opened", typed())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._write("closed", typed(), why="" if kind is None else kind.__name__)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def tell(self, event: Event) -> None:
        """Write down an event."""
        if self._file is None:
            return
        if isinstance(event, Began):
            self._where[id(event.item)] = event.where
            where = event.where
        else:
            where = self._where.pop(id(event.item), "")
        seconds = round(event.seconds, 3) if isinstance(event, Finished) else None
        why, details = getattr(event, "why", ""), getattr(event, "details", "")
        self._write(_WORDS[type(event)], self._name(event.item), where=where, seconds=seconds, why=why, details=details)

    def _write(self, event: str, what: str, **more: Any) -> None:
        if self._file is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        known = {name: value for name, value in more.items() if value not in ("", None)}
        line = json.dumps({"time": now, "event": event, "what": what, **known}, ensure_ascii=False) + "\n"
        data = ("\n" * self._is_torn + line).encode(errors="backslashreplace")
        try:
            # One call, so that lines of two processes do not mix.
            self._is_torn = os.write(self._file, data) < len(data)
        except OSError as error:
            self._complain(error.strerror or str(error))
        else:
            if self._is_torn:
                self._complain("the disk took half a line")

    def _complain(self, why: str) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            say(f"surefoot: the log {self.path} lacks lines from here on: {why}. The work goes on.")
