"""The engine of a cluster: tasks and actors of Ray."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from surefoot import checks
from surefoot.engine.cluster_actor import RayActor
from surefoot.engine.cluster_pool import RayPool
from surefoot.engine.protocol import TRAINING, WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from surefoot.engine.protocol import Actor, Limits, Pool

T = TypeVar("T")

_KNOCK = 10.0
"""Seconds that a cluster has to answer the door."""
# Workers shall be as this process is, whatever started it; an item that asks for no GPU sees those of its node, as elsewhere;
# and what Ray has to say of deaths, which it prints where our results belong, is told by the pool.
_QUIET = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TQDM_PATCH_PRINT": "0",  # Others ask whether `print` is still what it was.
}


@dataclass(frozen=True)
class Ray:
    """Workers of a Ray cluster: one that is running, or one of this machine alone that begins and ends with the context.

    Where this process is connected to a cluster already, as inside a task of Ray, that one is used, and left as it is.

    What is worked on travels by pickle, and what it is made of has to be importable on every node: the same versions of
    surefoot and of all it needs, and data where they are looked for. A node that leaves costs what it was at, and one that
    comes is given work. Signs of life are Ray's own; `Limits.silence` is not looked at.

    Attributes:
        address: Of a running cluster: `auto` for the one of this machine, or `host:port`; a cluster of this machine alone is
            started if None.
        workers: Processors of the cluster that is started, 0 or more, all if 0; of one that is joined, tasks at once at most,
            as many as it has room for if 0.

    Raises:
        TypeError: The number of workers is not a number.
        ValueError: It is below 0, or the address is none of these.
    """

    address: str | None = None
    workers: int = 0
    name: str = field(default="ray", init=False)
    _connected: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.whole("workers", self.workers, low=0)
        if self.address is not None and self.address != "auto":
            host, _, port = self.address.rpartition(":")
            if not host or not port.isdecimal() or "://" in host:
                raise ValueError(
                    f"address must be auto or host:port, got {self.address!r} (Ray's client, ray://, does not stream what "
                    f"tasks tell; start the command on a node of the cluster)"
                )

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            WorkError: Ray is not installed, or there is no cluster at the address.
        """
        ray = _ray()
        is_new = not ray.is_initialized()
        if is_new:
            _join(ray, self.address) if self.address else _start(ray, self.workers)
        self._connected.append(is_new)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Disconnect; a cluster that was started for this ends."""
        if self._connected.pop():
            _ray().shutdown()

    def open(self, function: Callable[[T], Any], limits: Limits, preload: Sequence[str] = TRAINING) -> Pool[T]:
        """Tasks for a function.

        Raises:
            ValueError: No node has what an item needs.
            WorkError: This is not used as a context.
        """
        ray = _connected()
        for kind, needed in (("CPU", limits.cpus), ("GPU", limits.gpus)):
            most = max((node["Resources"].get(kind, 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
            if needed > most:
                raise ValueError(
                    f"an item needs {needed:g} {kind}s, and no node of the cluster has more than {most:g}; ask for fewer"
                )
        return RayPool(ray, function, limits, preload, path=_path(), most=self.workers if self.address else 0)

    def actor(self, make: Callable[..., Any], *arguments: Any, preload: Sequence[str] = TRAINING) -> Actor:
        """An object in a worker of its own, on any node.

        Raises:
            WorkError: This is not used as a context.
        """
        return RayActor(_connected(), make, arguments, preload, _path())


def _ray() -> Any:
    """The module.

    Raises:
        WorkError: It is not installed.
    """
    try:
        with _environment(_QUIET):
            ray = import_module("ray")
            with suppress(ImportError, AttributeError):
                # This puts a function of its own in the place of `print`, unless it is made where the settings forbid it.
                import_module("ray.experimental.tqdm_ray").instance()
            return ray
    except ModuleNotFoundError as error:
        raise WorkError('the engine ray needs Ray; run: pip install "surefoot[ray]"') from error


def _connected() -> Any:
    ray = _ray()
    if not ray.is_initialized():
        raise WorkError("the engine is not connected to a cluster; use it as a context: with Ray() as engine: ...")
    return ray


def _start(ray: Any, workers: int) -> None:
    with _environment(_QUIET):
        ray.init("local", num_cpus=workers or None, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def _join(ray: Any, address: str) -> None:
    try:
        with _environment(_QUIET):
            where = _found(address)
            # Ray itself tries for minutes, and ends the process then.
            host, _, port = where.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
            ray.init(where, log_to_driver=False, logging_level="ERROR")
    except (OSError, OverflowError) as error:  # A ConnectionError is one.
        raise _absent(address) from error


def _found(address: str) -> str:
    """Where the cluster is: what is called `auto` is named in RAY_ADDRESS, or in a file that `ray start` left here."""
    if address != "auto":
        return address
    services = import_module("ray._private.services")
    return str(services.canonicalize_bootstrap_address(address))


def _absent(address: str) -> WorkError:
    return WorkError(f"no Ray cluster answers at {address}; start one with `ray start --head`, or name no address")


def _path() -> list[str]:
    """Where this process looks for modules, as others can be told."""
    return [os.path.abspath(place) for place in sys.path]  # noqa: PTH100 - an empty place is the working directory


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables for as long as Ray reads them, except those that are set already."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
