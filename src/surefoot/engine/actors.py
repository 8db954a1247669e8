"""Objects that live in processes of their own."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from surefoot.engine.protocol import TRAINING, WorkerDiedError, WorkError
from surefoot.engine.settling import context, settle
from surefoot.engine.worker import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection


class ProcessActor:
    """An object in a process of this machine: see `surefoot.engine.protocol.Actor`.

    Args:
        make: Called in the process; what it returns is the object.
        arguments: What it is called with.
        preload: Modules to import before.
    """

    def __init__(self, make: Callable[..., Any], arguments: Sequence[Any], preload: Sequence[str] = TRAINING) -> None:
        made = context(preload)
        self._line, end = made.Pipe()
        self._process = made.Process(target=_serve, args=(make, tuple(arguments), tuple(preload), end))
        self._process.start()
        end.close()

    def ask(self, method: str, *arguments: Any) -> None:
        """Have a method called."""
        try:
            self._line.send((method, arguments))
        except OSError as error:
            raise self._death() from error

    def answer(self) -> Any:
        """What it returned."""
        try:
            is_well, said = self._line.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if not is_well:
            raise WorkError(said)
        return said

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self._process.kill()
        self._process.join()

    def _death(self) -> WorkerDiedError:
        self._process.join()
        return WorkerDiedError(f"the process of an actor ended with code {self._process.exitcode}")


def _serve(make: Callable[..., Any], arguments: Sequence[Any], preload: Sequence[str], line: Connection) -> None:
    """Answer calls until nobody is on the line."""
    settle(preload)
    actor, trouble = None, ""
    try:
        actor = make(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the first call is answered with it
        trouble = f"{sentence(error)}\n{traceback.format_exc()}"
    while True:
        try:
            method, given = line.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (False, trouble) if trouble else (True, getattr(actor, method)(*given))
        except Exception as error:  # noqa: BLE001 - the same
            answer = (False, f"{sentence(error)}\n{traceback.format_exc()}")
        line.send(answer)
