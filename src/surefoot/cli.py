"""The `surefoot` command."""

from __future__ import annotations

import json
from collections import Counter
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surefoot import __version__, catalogue, lineup, tables
from surefoot.cards import policies
from surefoot.contest.command import contest
from surefoot.course.adapt import adapt
from surefoot.course.command import learn
from surefoot.insight.command import explain
from surefoot.judge.command import judge
from surefoot.replay.command import replay
from surefoot.running import Running, takes_running
from surefoot.runs import Store
from surefoot.spec import from_dict
from surefoot.telling import Telling, leaving
from surefoot.terminal import JsonOption, PageOption, failing, finishing, out, refusing, say, typed
from surefoot.verify.command import verify_nmf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.compare import Plan
    from surefoot.runs import Run, Trial
    from surefoot.stats import Cell

app = typer.Typer(
    help="Learning-rate schedules driven by the loss: compare them on real problems.",
    epilog="Exit codes: 0 done, 1 something failed on the way, 2 the request makes no sense, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DEMO_POLICIES = ["greedy", "constant", "linear", "cosine", "step"]

StoreOption = Annotated[Path, typer.Option("--store", help="File that keeps every finished run.", dir_okay=False)]


@app.callback(invoke_without_command=True)
def surefoot(
    *, version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and leave.")] = False
) -> None:
    """Learning-rate schedules driven by the loss: compare them on real problems."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@takes_running
def compare(
    *,
    running: Running,
    problem: Annotated[str, typer.Option("--problem", "-p", help="Problems, with commas between (see: surefoot problems).")],
    policy: Annotated[
        str,
        typer.Option("--policy", "-l", help="Policies, with commas between (see: surefoot policies); settings in brackets."),
    ] = ",".join(DEMO_POLICIES),
    optimizer: Annotated[str, typer.Option("--optimizer", "-o", help="Optimizers, with commas between.")] = "sgd",
    seeds: Annotated[int, typer.Option("--seeds", "-s", help="How many seeds each policy is trained from.")] = 3,
    rate: Annotated[float | None, typer.Option("--rate", help="Base learning rate; else each problem's own.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Budget in optimizer steps; else each problem's own.")] = None,
    ranks: Annotated[int, typer.Option("--ranks", help="How many processes train each run together.")] = 1,
    store: StoreOption = Path("surefoot-runs.sqlite"),
    page: PageOption = Path("surefoot-report.html"),
    as_json: JsonOption = False,
) -> None:
    """Train every policy on every problem from the same seeds, and draw what came of it.

    Finished runs are kept: the same command goes on where it was stopped, by Ctrl-C or by anything else.

    Example: surefoot compare --problem fashion-cnn --policy "greedy,greedy(window=20),cosine" --seeds 3
    """
    with refusing():
        from surefoot.compare import plan

        names = (_split(problem), _split(optimizer), lineup.split(policy))
        planned = plan(*names, seeds=seeds, rate=rate, steps=steps, ranks=ranks)
    _carry_out(planned, store=store, page=page, running=running, as_json=as_json)


@app.command()
@takes_running
def demo(
    *,
    running: Running,
    folder: Annotated[Path, typer.Option("--folder", help="Where the runs and the page go.", file_okay=False)] = Path("demo"),
    as_json: JsonOption = False,
) -> None:
    """Compare GreedyLR with four common schedules on handwritten digits, and on Fashion-MNIST if it is there."""
    from surefoot.compare import plan
    from surefoot.data import fashion_mnist_available

    problems = ["digits-cnn"]
    if fashion_mnist_available():
        problems.append("fashion-cnn")
    else:
        say("Without Fashion-MNIST: it comes with the Debian package dataset-fashion-mnist.")
    with failing():
        folder.mkdir(parents=True, exist_ok=True)
    planned = plan(problems, ["sgd"], DEMO_POLICIES, seeds=3)
    _carry_out(planned, store=folder / "runs.sqlite", page=folder / "report.html", running=running, as_json=as_json)


@app.command()
def report(
    store: Annotated[Path, typer.Argument(help="A file of runs that `surefoot compare` made.", dir_okay=False)],
    *,
    page: PageOption = Path("surefoot-report.html"),
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for the two main plots of each cell, as SVG.", file_okay=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the page again from all the runs in a store."""
    with refusing():
        from surefoot.compare import collect

        if not store.is_file():
            raise ValueError(f"there is no file {store}; name one that `surefoot compare` made")
        with Store(store) as runs:
            cells = collect(runs)
        if not cells:
            raise ValueError(f"{store} holds no runs to compare")
    if pictures is not None:
        _draw(cells, pictures)
    _present(cells, page=page, store=store, as_json=as_json)


@app.command()
def problems(*, as_json: JsonOption = False) -> None:
    """List the problems that policies can be compared on."""
    rows: list[dict[str, Any]] = [
        {"problem": name, "description": recipe.description, "steps": recipe.steps, "optimizers": list(recipe.bases)}
        for name, recipe in catalogue.PROBLEMS.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = tables.plain("problem", "what it is", "steps", "optimizers")
    for row in rows:
        table.add_row(row["problem"], row["description"], str(row["steps"]), ", ".join(row["optimizers"]))
    out.print(table)


app.add_typer(policies, name="policies")
app.add_typer(contest, name="contest")
app.command()(verify_nmf)
app.command()(learn)
app.command()(adapt)
app.command()(explain)
app.command()(replay)
app.command()(judge)


def _carry_out(planned: Plan, *, store: Path, page: Path, running: Running, as_json: bool) -> None:
    from surefoot.compare import judge

    with failing():
        with Store(store) as runs:
            _train(planned, runs, running)
            cells = judge(planned, runs)
        _present(cells, page=page, store=store, as_json=as_json)


def _train(planned: Plan, store: Store, running: Running) -> None:
    from surefoot.compare import execute

    every = planned.trials
    there = Counter(_cell_of(trial) for trial in every if trial in store)
    if there and not running.quiet:
        say(f"{there.total()} of {len(every)} runs are in {store.path} already.")
    with refusing():
        telling = Telling(
            running,
            "problem, optimizer",
            name=_crew,
            part=lambda crew: _cell_of(crew[0]),
            size=len,
            best=_best,
            of=Counter(map(_cell_of, every)),
            there=there,
        )
    with (
        refusing(),
        leaving(running, lambda: f"{len(store)} runs are kept in {store.path}"),
        telling,
        running.engine() as engine,
    ):
        asked: dict[str, Any] = {"limits": running.limits, "tell": telling.tell, "on_interrupt": finishing("runs")}
        for trial, run in execute(planned, store, engine=engine, **asked):
            telling.kept(_cell_of(trial), f"{_name(trial)}: {run.status} in {run.seconds:.1f} s")


def _cell_of(trial: Trial) -> str:
    return f"{trial.problem}, {trial.optimizer}"


def _who(trial: Trial) -> str:
    return f"{lineup.label(from_dict(trial.policy), trial.steps)}, seed {trial.seed}"


def _name(trial: Trial) -> str:
    return f"{_cell_of(trial)}, {_who(trial)}"


def _crew(crew: Sequence[Trial]) -> str:
    return _name(crew[0]) + (f", and {len(crew) - 1} more" if len(crew) > 1 else "")


def _best(_: Sequence[Trial], runs: Sequence[Run]) -> tuple[float, str] | None:
    from surefoot.stats import final_loss

    best = min(runs, key=final_loss)
    final = final_loss(best)
    return (final, _who(best.trial)) if isfinite(final) else None


def _present(cells: Sequence[Cell], *, page: Path, store: Path, as_json: bool) -> None:
    from surefoot.report import write

    with failing():
        write(page, cells, title="Learning-rate schedules compared", command=typed())
    if as_json:
        found = {
            "version": __version__,
            "cells": [tables.as_json(cell) for cell in cells],
            "page": str(page),
            "store": str(store),
        }
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    for cell in cells:
        out.print(tables.of_cell(cell))
    out.print(f"Page: {page.resolve()}", soft_wrap=True, highlight=False)


def _draw(cells: Sequence[Cell], folder: Path) -> None:
    from surefoot.pictures import picture

    with failing():
        folder.mkdir(parents=True, exist_ok=True)
        for cell in cells:
            (folder / f"{cell.problem}-{cell.optimizer}.svg").write_text(picture(cell), "utf-8")


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
