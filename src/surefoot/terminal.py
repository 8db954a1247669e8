"""How commands speak to whoever typed them: tables to standard output, sentences to standard error, exit codes."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from surefoot.runs import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

out, err = Console(), Console(stderr=True)

FAILED, REFUSED, STOPPED = 1, 2, 130

PageOption = Annotated[Path, typer.Option("--page", help="Where to write the page, one HTML file.", dir_okay=False)]
ColumnOption = Annotated[str | None, typer.Option("--column", help="Name of the loss in a log; else the usual ones.")]
TagOption = Annotated[str | None, typer.Option("--tag", help="Name of the loss in TensorBoard; else the usual ones.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]


def say(sentence: str) -> None:
    """Print a sentence to standard error."""
    err.print(sentence, highlight=False, markup=False, soft_wrap=True)


def typed() -> str:
    """The command as it was typed."""
    return shlex.join(["surefoot", *sys.argv[1:]])


def finishing(what: str) -> Callable[[], None]:
    """What the first Ctrl-C is answered with."""
    return lambda: say(f"Finishing the {what} that are under way; press Ctrl-C again to leave at once.")


def stop(kept: Callable[[], str]) -> NoReturn:
    """Leave because of Ctrl-C; pressing it once more does not change the exit code.

    Args:
        kept: What is kept, and where, as the beginning of a sentence.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    say(f"Stopped. {kept()}; the same command goes on from there.")
    raise typer.Exit(STOPPED) from None


@contextmanager
def refusing() -> Iterator[None]:
    """A request that makes no sense is answered in one sentence."""
    try:
        yield
    except (ValueError, TypeError, StoreError) as error:
        leave(str(error), REFUSED, error)


@contextmanager
def failing() -> Iterator[None]:
    """A failure on the way is told in one sentence."""
    try:
        yield
    except typer.Exit:  # A RuntimeError, too.
        raise
    except (RuntimeError, OSError, ImportError) as error:
        leave(str(error), FAILED, error)


def leave(sentence: str, code: int, error: Exception) -> NoReturn:
    """Say what went wrong, and leave with an exit code."""
    say(f"surefoot: {sentence}")
    raise typer.Exit(code) from error
