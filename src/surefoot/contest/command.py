"""`surefoot contest`."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surefoot import tables
from surefoot.running import Running, takes_running
from surefoot.telling import Telling, leaving
from surefoot.terminal import FAILED, JsonOption, failing, finishing, out, refusing, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.contest.blocks import Block
    from surefoot.contest.rows import ContestRow
    from surefoot.contest.study import Study

contest = typer.Typer(help="The comparison of schedules: its tasks, their data, and the study.", no_args_is_help=True)


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


@contest.command()
@takes_running
def run(
    *,
    running: Running,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the rows and the page.", file_okay=False)] = Path(
        "surefoot-contest"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Four small tasks and few rivals: a look that claims nothing.")
    ] = False,
    development: Annotated[
        bool, typer.Option("--development", help="The tasks that defaults are chosen on, in place of those of the test.")
    ] = False,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="A task to run, more than once for several; else all.")
    ] = None,
    rival: Annotated[list[str] | None, typer.Option("--rival", help="A rival to run, likewise.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.0, help="After how long to stop; the same command goes on from there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare schedules: train every rival on every task, say what came of it, and draw the page.

    Every finished run is kept: the same command goes on where it was stopped, and more tasks and rivals can join later.

    Example: surefoot contest run --quick
    """
    from surefoot.contest import study as studies

    role = "development" if development else "test"
    with refusing():
        asked = studies.study_of(quick=quick, role=role, tasks=task or (), rivals=rival or ())
        chosen, lacking = studies.ready(asked)
    for sentence in lacking:
        say(f"Skipped {sentence}")
    with failing():
        is_left = _carry_out(folder, chosen, running, minutes)
    if is_left:
        say(f"Stopped after {minutes:g} minutes. Finished runs are kept in {folder}; the same command goes on from there.")
    _present(folder, chosen, lacking, as_json=as_json)


@contest.command()
def redraw(
    *,
    folder: Annotated[Path, typer.Option("--out", help="Folder that `surefoot contest run` made.", file_okay=False)] = Path(
        "surefoot-contest"
    ),
    as_json: JsonOption = False,
) -> None:
    """Say what came of the runs in a folder, and draw the page again; nothing is trained.

    Example: surefoot contest redraw --out studies/contest
    """
    from surefoot.contest import study as studies

    with failing():
        chosen, lacking = studies.of_folder(folder)
    _present(folder, chosen, lacking, as_json=as_json)


def _carry_out(folder: Path, study: Study, running: Running, minutes: float | None) -> bool:
    from surefoot.contest.study import carry_out

    with refusing():
        telling = Telling(running, "task, optimizer", name=_name, part=_part, best=_best)

    def tell(block: Block, left: int, rows: int) -> None:
        telling.expect(left - 1)
        telling.kept(_part(block), f"{_name(block)}, {rows} in all; {left} blocks to go")

    with (
        refusing(),
        leaving(running, lambda: f"Finished runs are kept in {folder}"),
        telling,
        running.engine() as engine,
    ):
        return carry_out(
            folder,
            study,
            engine=engine,
            limits=running.limits,
            seconds=None if minutes is None else 60.0 * minutes,
            tell=tell,
            on_event=telling.tell,
            on_interrupt=finishing("blocks"),
        )


def _part(block: Block) -> str:
    return f"{block.cell.task}, {block.cell.optimizer}"


def _name(block: Block) -> str:
    return f"{_part(block)}: {len(block.runs)} runs"


def _best(_: Block, rows: Sequence[ContestRow]) -> tuple[float, str] | None:
    best = min(rows, key=lambda row: row.final)
    return (best.final, f"{best.key.rival}, rate {best.key.rate:.3g}") if isfinite(best.final) else None


def _present(folder: Path, study: Study, lacking: Sequence[str], *, as_json: bool) -> None:
    from surefoot.contest import page as pages
    from surefoot.contest.outcome import Outcome
    from surefoot.contest.rows import Rows

    with failing():
        found = Outcome(study, Rows.read(folder, study.definitions))
        page = pages.write(folder / "page.html", found, lacking=lacking, command=f"surefoot contest redraw --out {folder}")
    headlines = pages.headlines(found)
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"sentence": each.sentence} for each in headlines], indent=2))
        return
    for each in headlines:
        out.print(each.sentence, highlight=False)
    out.print(f"Page: {page.resolve()}", soft_wrap=True, highlight=False)
