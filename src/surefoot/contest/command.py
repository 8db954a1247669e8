"""`surefoot contest`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import Annotated

import typer

from surefoot import tables
from surefoot.terminal import FAILED, JsonOption, out, refusing, say

contest = typer.Typer(help="The tasks that schedules are compared on, and their data.", no_args_is_help=True)


@contest.command()
def tasks(
    *,
    file: Annotated[
        Path | None, typer.Option("--file", help="Tasks of your own; else those of the comparison.", dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tasks, and say which lack their data.

    Example: surefoot contest tasks --file mine.toml
    """
    from surefoot.contest.tasks import load

    with refusing():
        loaded = load(file)
    if as_json:
        typer.echo(json.dumps([asdict(task) | {"missing": task.missing()} for task in loaded], indent=2))
        return
    table = tables.plain("task", "role", "data", "what is trained")
    for task in loaded:
        model = " ".join([task.model, *map(str, task.sizes)])
        trained = f"{model}, {task.steps} batches of {task.batch_size}"
        table.add_row(task.name, task.role, f"{task.data}, {task.held_out} held out", trained)
    out.print(table)
    lacking = [sentence for task in loaded if (sentence := task.missing())]
    for sentence in lacking:
        say(sentence)
    out.print(f"{len(loaded)} tasks, {len(lacking)} of them without their data.", highlight=False)


@contest.command()
def fetch(
    packages: Annotated[list[str] | None, typer.Argument(help="Debian packages to fetch; all that tasks need if none.")] = None,
) -> None:
    """Download the data of the tasks, check them, and keep them in the cache; nothing is installed.

    What is there already is left alone. It ends with exit code 1 if something could not be had.

    Example: surefoot contest fetch r-cran-mlbench
    """
    from surefoot.contest import fetch as fetching

    with refusing():
        failures = fetching.fetch(packages or None, on_progress=say)
    if failures:
        raise typer.Exit(FAILED)
