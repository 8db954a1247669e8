"""Trainings of several seeds at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from multiprocessing.connection import wait
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot.engine import TRAINING
from surefoot.engine.settling import settle
from surefoot.learn import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from surefoot.learn import Settings

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows
    flock = None  # type: ignore[assignment]

_PRELOAD = (*TRAINING, "surefoot.learn.ppo")


class Order(NamedTuple):
    """What is to be learned, in a form that can be sent to another process.

    Attributes:
        on, tier: What on: see `surefoot.learn.lesson`.
        settings: How.
        folder: Where each seed has a folder of its own.
    """

    on: str
    tier: str | None
    settings: Settings
    folder: Path

    def place(self, seed: int) -> Path:
        """Where the training of a seed is kept."""
        return self.folder / f"seed-{seed}"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else learns in this folder meanwhile; on Windows nobody is told.

    Raises:
        LearningError: Somebody does.
    """
    with (folder / "lock").open("w") as file:
        if flock is not None:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError as error:
                raise LearningError(f"another process is learning in {folder}; wait for it, or take another --name") from error
        yield


class LearningError(RuntimeError):
    """A training came to an end that is not its own; the message says which and how."""


def learn(
    order: Order, seeds: Sequence[int], *, until: float | None = None, on_interrupt: Callable[[], None] = lambda: None
) -> Iterator[Record]:
    """Learn from all seeds at once, and yield where a training stands whenever one of its rounds is done.

    A process that is killed costs the round it was in: it is begun again. The first Ctrl-C lets all rounds under way be
    finished and yielded; then, and at once at the second, KeyboardInterrupt is raised. Processes end with this one, however it
    ends.

    Args:
        order: What to learn.
        seeds: What from, one or more.
        until: A time of `time.monotonic` after which no round is begun.
        on_interrupt: Called at the first Ctrl-C.

    Raises:
        LearningError: A training failed, or its process died more than `DEATHS` times.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    school = _School(order)
    is_interrupted = False
    try:
        for seed in seeds:
            school.send(seed)
        while school.lines:
            try:
                ready = wait(list(school.lines), None if until is None else max(until - monotonic(), 0.0))
                if until is not None and monotonic() >= until:
                    school.stop.set()
                    until = None
                for line in ready:
                    record = school.hear(line)
                    if record is not None:
                        yield record
            except KeyboardInterrupt:
                if is_interrupted:
                    raise
                is_interrupted = True
                school.stop.set()
                on_interrupt()
    finally:
        school.close()
    if is_interrupted:
        raise KeyboardInterrupt


class _School:
    """The processes, and the lines over which they report."""

    def __init__(self, order: Order) -> None:
        methods = multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        self._context.set_forkserver_preload(list(_PRELOAD))
        self.stop = self._context.Event()
        self.lines: dict[Any, tuple[int, Any]] = {}
        self._order = order
        self._deaths: dict[int, int] = {}

    def send(self, seed: int) -> None:
        """Begin the training of a seed, or go on with it."""
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(self._order, seed, there, self.stop), daemon=True)
        process.start()
        there.close()
        self.lines[here] = (seed, process)

    def hear(self, line: Any) -> Record | None:
        """What comes over a line: where a training stands; nothing if that is the end of it."""
        seed, process = self.lines[line]
        try:
            said = line.recv()
        except EOFError:
            said = _DEAD
        if isinstance(said, tuple):
            return Record(*said)
        del self.lines[line]
        line.close()
        process.join()
        if said == _DEAD:
            self._deaths[seed] = self._deaths.get(seed, 0) + 1
            if self._deaths[seed] > DEATHS:
                raise LearningError(f"the process of seed {seed} died {DEATHS + 1} times (is there memory enough?)")
            if not self.stop.is_set():
                self.send(seed)
        elif said:
            raise LearningError(said)
        return None

    def close(self) -> None:
        """Leave nothing behind that is still running."""
        for line, (_, process) in self.lines.items():
            process.kill()
            process.join()
            line.close()


DEATHS = 3
_DEAD = "dead"


def _work(order: Order, seed: int, line: Connection, stop: Any) -> None:
    """What a process does: tell of every round, and at the end an empty sentence, or what went wrong."""
    settle(_PRELOAD)
    from surefoot.learn import lesson, train

    def on_round(record: Record) -> bool:
        line.send(tuple(record))
        return not stop.is_set()

    try:
        train(lesson(order.on, tier=order.tier), order.settings, seed, order.place(seed), on_round=on_round)
        line.send("")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told where it can be read
        line.send(
            f"seed {seed}: {error}" if isinstance(error, (RuntimeError, ValueError, OSError)) else f"seed {seed}: {error!r}"
        )
