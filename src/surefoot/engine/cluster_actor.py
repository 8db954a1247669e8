"""Objects that live on the nodes of a cluster."""

from __future__ import annotations

import pickle
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any

from surefoot.engine.protocol import WorkerDiedError, WorkError
from surefoot.engine.settling import keep_to
from surefoot.engine.worker import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RayActor:
    """An object in a worker of Ray: see `surefoot.engine.protocol.Actor`.

    Args:
        ray: The module, connected.
        make: Called in the worker; what it returns is the object.
        arguments: What it is called with.
        preload: Modules to import before.
        path: Where else the worker looks for modules.
    """

    def __init__(
        self, ray: Any, make: Callable[..., Any], arguments: Sequence[Any], preload: Sequence[str], path: Sequence[str]
    ) -> None:
        self._ray, self._call = ray, None
        # An actor mostly waits for the next call. Ray begins none again: what it knew would be gone.
        settings = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        made = ray.cloudpickle.dumps((make, tuple(arguments)))
        self._actor = ray.remote(Holder).options(**settings).remote(made, tuple(preload), tuple(path))

    def ask(self, method: str, *arguments: Any) -> None:
        """Have a method called."""
        self._call = self._actor.call.remote(method, self._ray.cloudpickle.dumps(arguments))

    def answer(self) -> Any:
        """What it returned."""
        try:
            is_well, said = self._ray.get(self._call)
        except self._ray.exceptions.RayTaskError as error:
            raise WorkError(sentence(error.cause)) from error
        except self._ray.exceptions.RayError as error:
            raise WorkerDiedError(f"the worker of an actor died: {_first_line(error)}") from error
        if not is_well:
            raise WorkError(said)
        return pickle.loads(said)  # noqa: S301 - from our own worker

    def close(self) -> None:
        """End the worker."""
        self._ray.kill(self._actor)


class Holder:
    """Holds the object in its worker, and calls its methods.

    Args:
        made: What makes it, and of what, pickled.
        preload: Modules to import before.
        path: Where else to look for modules.
    """

    def __init__(self, made: bytes, preload: Sequence[str], path: Sequence[str]) -> None:
        self._held, self._trouble = None, ""
        try:
            sys.path += [place for place in path if place not in sys.path]
            keep_to(1, preload)
            make, arguments = pickle.loads(made)  # noqa: S301 - from our own driver
            self._held = make(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, every call is answered with it
            self._trouble = _told(error)

    def call(self, method: str, arguments: bytes) -> tuple[bool, Any]:
        """Call a method, and return whether that went well, and what it returned, pickled, or what went wrong."""
        cloudpickle: Any = import_module("ray.cloudpickle")

        if self._trouble:
            return False, self._trouble
        try:
            returned = getattr(self._held, method)(*pickle.loads(arguments))  # noqa: S301 - the same
            return True, cloudpickle.dumps(returned)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told where it can be read
            return False, _told(error)


def _told(error: Exception) -> str:
    return f"{sentence(error)}\n{traceback.format_exc()}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
