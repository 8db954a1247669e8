"""`surefoot replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surefoot import __version__, checks
from surefoot.terminal import ColumnOption, JsonOption, PageOption, TagOption, failing, out, refusing, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.loss_log import LossLog
    from surefoot.replay.folding import Replayed


def replay(
    log: Annotated[
        Path,
        typer.Argument(help="Losses: CSV, JSON lines, a TensorBoard folder, a Trainer's trainer_state.json."),
    ],
    *,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", "-l", help="A policy (see: surefoot policies), settings in brackets; may be repeated."),
    ] = None,
    column: ColumnOption = None,
    tag: TagOption = None,
    base: Annotated[float | None, typer.Option("--base", help="Base rate; else the log's first rate above 0.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Budget of schedules of time, in losses; else as many as there are.")
    ] = None,
    page: PageOption = Path("surefoot-replayed.html"),
    as_json: JsonOption = False,
) -> None:
    """Show what policies would have done on a loss log that is there already. Nothing is trained.

    Example: surefoot replay losses.csv --policy "greedy(window=20)" --policy plateau
    """
    with failing(), refusing():
        from surefoot import loss_log
        from surefoot.replay import page as pages

        read = loss_log.read(log, column=column, tag=tag)
        unit = _base(read, base)
        found = _replayed(read, policy or ["greedy"], unit, steps)
        pages.write(page, read, found, base=unit, command=typed())
    if as_json:
        told = {"version": __version__, **pages.as_json(read, found, unit), "page": str(page)}
        typer.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    for note in (pages.WARNING, *pages.notes(read, unit)):
        out.print(note, highlight=False)
    for each in found:
        out.print(pages.as_table(each, unit), highlight=False)
    out.print(f"Page: {page.resolve()}", soft_wrap=True, highlight=False)


def _base(log: LossLog, asked: float | None) -> float | None:
    if asked is not None:
        checks.number("base", asked, low=0.0)
        return asked
    return next((rate for rate in log.rates or () if rate > 0.0), None)


def _replayed(log: LossLog, entries: Sequence[str], base: float | None, steps: int | None) -> list[Replayed]:
    from surefoot import lineup
    from surefoot.replay.folding import replay as fold

    budget = len(log.losses) if steps is None else steps
    checks.whole("steps", budget, low=1)
    asked = list(dict.fromkeys(entry for given in entries for entry in lineup.split(given)))
    policies = [(entry, lineup.enter(entry, budget)) for entry in asked]
    return [fold(made, log.losses, steps=log.steps, base=base, signals=log.signals, label=entry) for entry, made in policies]
