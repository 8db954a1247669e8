"""How a long command works: where, within which limits, and how much it says of it. Its options are said here, once."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from functools import wraps
from importlib.util import find_spec
from pathlib import Path  # noqa: TC003 - Typer looks at the annotations.
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from surefoot import checks
from surefoot.engine import Limits, Local
from surefoot.terminal import refusing

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.engine import Engine

T = TypeVar("T")

ENGINES = ("local", "ray")
PANEL = "Where the work is done, and what is told of it"
GIGABYTE = 10**9


def _option(name: str, says: str, **more: Any) -> Any:
    return typer.Option(name, help=says, rich_help_panel=PANEL, **more)


@dataclass(frozen=True)
class Running:
    """What the options say that all long commands have; `takes_running` gives them to a command.

    A piece of work is what a worker is given at once: a run, a fleet of runs, a few checks, a round of a training.

    Raises:
        TypeError: A number is not one.
        ValueError: The request makes no sense; the message says why.
    """

    kind: Annotated[str, _option("--engine", "Where: local, processes of this machine, or ray, a Ray cluster.")] = "local"
    address: Annotated[
        str | None,
        _option("--address", "With --engine ray, a cluster that is running: auto or host:port; else one is started."),
    ] = None
    workers: Annotated[
        int, _option("--workers", "Pieces of work at once; 0 for one per core, or for all that a cluster has room for.", min=0)
    ] = 0
    retries: Annotated[
        int, _option("--retries", "How often a piece of work is begun again whose worker died under it.", min=0)
    ] = Limits.retries
    time_limit: Annotated[
        float | None, _option("--time-limit", "Minutes that a piece of work may take; it has failed if it takes longer.")
    ] = None
    memory_limit: Annotated[
        float | None, _option("--memory-limit", "Gigabytes that a worker may take; its work has failed if it takes more.")
    ] = None
    gpus: Annotated[
        float, _option("--gpus", "GPUs for a piece of work: 0.5 to let two share one; above 1, a whole number.", min=0.0)
    ] = 0.0
    log: Annotated[
        Path | None, _option("--log", "File to append all that happens to, one JSON object on each line.", dir_okay=False)
    ] = None
    quiet: Annotated[bool, _option("--quiet", "Say nothing on the way but what fails.")] = False

    def __post_init__(self) -> None:
        checks.one_of("--engine", self.kind, ENGINES)
        if self.address is not None and self.kind != "ray":
            raise ValueError("--address is that of a Ray cluster; give --engine ray, too, or no address")
        if self.kind == "ray" and find_spec("ray") is None:
            raise ValueError("--engine ray needs Ray: pip install 'surefoot[ray]'")
        for name, value in (("--time-limit", self.time_limit), ("--memory-limit", self.memory_limit)):
            if value is not None and not 0.0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, got {value:g}")
        self.engine()
        assert self.limits

    @property
    def limits(self) -> Limits:
        """What a piece of work may take."""
        return Limits(
            retries=self.retries,
            seconds=None if self.time_limit is None else 60.0 * self.time_limit,
            memory=None if self.memory_limit is None else max(1, round(GIGABYTE * self.memory_limit)),
            gpus=self.gpus,
        )

    def engine(self) -> Engine:
        """Where the work is done; nothing is started before it is used as a context."""
        if self.kind == "local":
            return Local(self.workers)
        from surefoot.engine.cluster import Ray

        made: Engine = Ray(address=self.address, workers=self.workers)
        return made


def takes_running(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command, in the place of its parameter `running`, the options that make one, for typer to see."""
    signature = inspect.signature(command, eval_str=True)
    hints, names = get_type_hints(Running, include_extras=True), [field.name for field in fields(Running)]
    own = [each for each in signature.parameters.values() if each.name != "running"]
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(Running)
    ]

    @wraps(command)
    def with_options(**given: Any) -> T:
        with refusing():
            running = Running(**{name: given.pop(name) for name in names})
        return command(**given, running=running)

    every: Any = with_options
    every.__signature__ = signature.replace(parameters=[*own, *options])
    every.__annotations__ = {each.name: each.annotation for each in (*own, *options)}
    return with_options
