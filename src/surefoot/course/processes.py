"""Trainings of several seeds at once, round by round, wherever an engine has workers."""

from __future__ import annotations

from collections import deque
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from surefoot import checks
from surefoot.engine import Limits, WorkError, perform
from surefoot.learn import lesson
from surefoot.learn.lessons import modules
from surefoot.learn.training import after_round, kept_in, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from surefoot.engine import Engine, Event
    from surefoot.learn import Lesson, Record, Settings
    from surefoot.learn.keep import Kept
    from surefoot.learn.spread import Helpers

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows
    flock = None  # type: ignore[assignment]


class Order(NamedTuple):
    """What is to be learned, in a form that can be sent to another process.

    Attributes:
        on, tier: What on: see `surefoot.learn.lesson`.
        settings: How.
        folder: Where each seed has a folder of its own.
        env_workers: How many workers train for each seed while its learner decides, 0 or more; it does so itself if 0. What is
            learned does not depend on it.
    """

    on: str
    tier: str | None
    settings: Settings
    folder: Path
    env_workers: int = 0

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


class Due(NamedTuple):
    """A round that is to be done, in a form that can be sent to a worker.

    Attributes:
        seed: Of the training.
        kept: What is kept of the rounds before.
    """

    seed: int
    kept: Kept


def learn(
    order: Order,
    seeds: Sequence[int],
    *,
    engine: Engine,
    limits: Limits | None = None,
    until: float | None = None,
    tell: Callable[[Event], None] = lambda _event: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Iterator[Record]:
    """Learn from all seeds at once, and yield where a training stands whenever one of its rounds is done.

    Workers do rounds; this process alone reads and writes the folder, so that they need no disk in common. A worker that dies
    costs the round it was at, an environment worker what it had trained in it: it is begun again. A training that fails does
    not keep the others from going on. For the engine and Ctrl-C, see `surefoot.engine.perform`.

    Args:
        order: What to learn.
        seeds: What from, one or more.
        engine: Where, within its context.
        limits: What a round may take; the usual if None.
        until: A time of `time.monotonic` after which no round is handed out; the few that the engine has by then are done.
        tell: Called with all that happens to a `Due`.
        on_interrupt: Called at the first Ctrl-C.

    Raises:
        LearningError: A training failed, or its worker died too often; what others have learned is kept.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    checks.whole("env_workers", order.env_workers, low=0)
    about, limits, of = lesson(order.on, tier=order.tier), limits or Limits(), order.settings.rounds

    waiting = deque(each for each in (_begun(about, order, seed) for seed in seeds) if each.kept.rounds < of)

    def is_late() -> bool:
        return until is not None and monotonic() >= until

    def first() -> Iterator[Due]:
        while waiting and not is_late():
            yield waiting.popleft()

    def follow(done: Due, kept: Kept) -> list[Due]:
        """The round that has waited longest: seeds that no worker was free for yet come before this one comes again."""
        if kept.rounds < of:
            waiting.append(Due(done.seed, kept))
        return [waiting.popleft()] if waiting and not is_late() else []

    work = perform(
        engine,
        partial(_carried_out, _absolute(order.on), order.tier, order.settings, _helpers(order, engine, limits)),
        first(),
        limits=limits,
        preload=["surefoot.learn.ppo", *modules(order.on)],
        follow=follow,
        tell=tell,
        on_interrupt=on_interrupt,
    )
    with closing(work), _told():
        for done, kept in work:
            kept.write(order.place(done.seed))
            yield record_of(done.seed, order.settings, kept)


def _begun(about: Lesson, order: Order, seed: int) -> Due:
    """The first round of a seed that is not done yet."""
    try:
        return Due(seed, kept_in(about, order.settings, seed, order.place(seed)))
    except (RuntimeError, OSError) as error:
        raise LearningError(f"seed {seed}: {error}") from error


@contextmanager
def _told() -> Iterator[None]:
    """Failures say of which seed they are."""
    try:
        yield
    except WorkError as error:
        each = [f"seed {failed.item.seed}: {failed.why}" for failed in error.failures]
        raise LearningError("; ".join(each) or str(error)) from error


def _helpers(order: Order, engine: Engine, limits: Limits) -> Helpers | None:
    if not order.env_workers:
        return None
    from surefoot.learn.spread import Helpers

    return Helpers(engine, order.env_workers, _absolute(order.on), order.tier, limits.retries)


def _absolute(on: str) -> str:
    """A lesson's name for workers, which may be in other folders: that of a file from the root."""
    path, colon, name = on.rpartition(":")
    return f"{Path(path).absolute()}{colon}{name}" if colon else on


def _carried_out(on: str, tier: str | None, settings: Settings, helpers: Helpers | None, due: Due) -> Kept:
    """What a worker does: a round."""
    about = replace(_lesson(on, tier), name=due.kept.identity["on"])  # Of a file, it was the path as it was typed.
    if helpers is None:
        return after_round(about, settings, due.seed, due.kept)
    with helpers.engine:
        return after_round(about, settings, due.seed, due.kept, helpers)


@cache
def _lesson(on: str, tier: str | None) -> Lesson:
    return lesson(on, tier=tier)
