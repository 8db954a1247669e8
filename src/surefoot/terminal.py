"""How commands speak to whoever typed them: tables to standard output, sentences to standard error, exit codes."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from surefoot.runs import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

out, err = Console(), Console(stderr=True)

FAILED, REFUSED, STOPPED = 1, 2, 130

PageOption = Annotated[Path, typer.Option("--page", help="Where to write the page, one HTML file.", dir_okay=False)]
ColumnOption = Annotated[str | None, typer.Option("--column", help="Name of the loss in a log; else the usual ones.")]
TagOption = Annotated[str | None, typer.Option("--tag", help="Name of the loss in TensorBoard; else the usual ones.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]


def say(sentence: str) -> None:
    """Print a sentence to standard error."""
    err.print(sentence, highlight=False, markup=False, soft_wrap=True)


def progress() -> Progress:
    """A bar with what is done, on standard error if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, disable=not err.is_terminal)


@contextmanager
def refusing() -> Iterator[None]:
    """A request that makes no sense is answered in one sentence."""
    try:
        yield
    except (ValueError, TypeError, StoreError) as error:
        _leave(error, REFUSED)


@contextmanager
def failing() -> Iterator[None]:
    """A failure on the way is told in one sentence."""
    try:
        yield
    except typer.Exit:  # A RuntimeError, too.
        raise
    except (RuntimeError, OSError, ImportError) as error:
        _leave(error, FAILED)


def _leave(error: Exception, code: int) -> None:
    say(f"surefoot: {error}")
    raise typer.Exit(code) from error
