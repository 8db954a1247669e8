"""Work, done by an engine: what is finished is handed on at once, and nothing that is finished is lost."""

from __future__ import annotations

import signal
import threading
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from surefoot.engine.protocol import TRAINING, Failed, Finished, Limits, WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import Self

    from surefoot.engine.protocol import Engine, Event, Pool

T = TypeVar("T")
U = TypeVar("U")

GLANCE = 0.25
"""Seconds after which an engine that has nothing to tell is asked whether Ctrl-C was pressed."""
_SHOWN = 3


def perform(
    engine: Engine,
    function: Callable[[T], U],
    items: Iterable[T],
    *,
    limits: Limits | None = None,
    preload: Sequence[str] = TRAINING,
    follow: Callable[[T, U], Iterable[T]] = lambda _item, _result: (),
    tell: Callable[[Event], None] = lambda _event: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Generator[tuple[T, U], None, None]:
    """Yield `(item, function(item))` as they are finished.

    Items are taken when a worker is about to be free, so that there may be more of them than memory holds. One that fails, or
    goes over a limit, does not keep the others from being finished. The first Ctrl-C lets the items that are under way be
    finished and yielded; then, and at once at the second, KeyboardInterrupt is raised. Close the generator to drop the rest:
    `contextlib.closing` does.

    >>> from math import sqrt
    >>> from surefoot.engine import Local
    >>> with Local(workers=2) as engine:
    ...     dict(perform(engine, sqrt, [1.0, 4.0], preload=[])) == {1.0: 1.0, 4.0: 2.0}
    True

    Args:
        engine: Where, within its context.
        function: What to do; a function of a module, or a `functools.partial` of one.
        items: What to do it with; like the results, they travel by pickle.
        limits: What an item may take; the usual if None.
        preload: Modules that are imported once, not once per worker, because that takes long.
        follow: What has to be done next now that there is this result; it is called after the result was taken.
        tell: Called with all that happens.
        on_interrupt: Called at the first Ctrl-C.

    Raises:
        WorkError: Some items could not be done; it is raised when all others are.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    failures: list[Failed] = []
    waiting: Iterator[T] = iter(items)
    next_up: deque[T] = deque()
    with closing(engine.open(function, limits or Limits(), preload)) as pool, _Interrupts() as interrupts:
        is_stopping = False
        _submit(pool, next_up, waiting)
        while pool.pending:
            for event in pool.wait(GLANCE):
                tell(event)
                if isinstance(event, Finished):
                    yield event.item, event.result
                    if not is_stopping:
                        next_up.extend(follow(event.item, event.result))
                elif isinstance(event, Failed):
                    failures.append(event)
            if interrupts.count and not is_stopping:
                is_stopping = True
                pool.stop()
                on_interrupt()
            if not is_stopping:
                _submit(pool, next_up, waiting)
    if is_stopping:
        raise KeyboardInterrupt
    if failures:
        raise WorkError(_told(failures), failures)


def _submit(pool: Pool[Any], next_up: deque[T], waiting: Iterator[T]) -> None:
    """Hand over as many items as are wanted, those first that follow from others."""
    for _ in range(pool.room):
        if next_up:
            pool.submit(next_up.popleft())
            continue
        for item in waiting:
            pool.submit(item)
            break
        else:
            return


def _told(failures: Sequence[Failed]) -> str:
    reasons = list(dict.fromkeys(failure.why for failure in failures))
    shown = "; ".join(reasons[:_SHOWN]) + ("; and others" if len(reasons) > _SHOWN else "")
    return shown if len(failures) == 1 else f"{len(failures)} pieces of work failed: {shown}"


class _Interrupts:
    """Counts Ctrl-C in the place of raising KeyboardInterrupt wherever it happens to be pressed; the second one does raise."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, *_: object) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
