"""`surefoot explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surefoot import __version__
from surefoot.terminal import ColumnOption, JsonOption, PageOption, TagOption, failing, out, refusing, typed

if TYPE_CHECKING:
    from surefoot.insight.log import Log
    from surefoot.insight.tracing import Trace


def explain(
    run: Annotated[
        str,
        typer.Argument(help="A run of --store, by its key or as problem/policy/seed; or a log of losses."),
    ],
    *,
    store: Annotated[
        Path | None, typer.Option("--store", help="The file of runs that it is in.", dir_okay=False, exists=True)
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", "-l", help="A learned policy, to see what it would have done on this run.")
    ] = None,
    base: Annotated[float | None, typer.Option("--base", help="Base rate of a log; else its first rate.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=0, help="Budget of a log in steps, 0 if it was not known; else its length.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Train the run again to measure what the policy sees besides losses.")
    ] = False,
    column: ColumnOption = None,
    tag: TagOption = None,
    page: PageOption = Path("surefoot-explained.html"),
    as_json: JsonOption = False,
) -> None:
    """Draw what a learned policy saw and did over one run: features, actions, guards, and why.

    Example: surefoot explain losses.csv --policy networks-loss
    """
    with failing(), refusing():
        found, notes = _explained(_found(run, store, column=column, tag=tag), policy, base, steps, again=again)
        from surefoot.insight import page as pages

        name = Path(run).name if store is None else run
        pages.write(page, found, name=name, command=typed(), notes=notes)
    if as_json:
        told = {"version": __version__, "run": run, "notes": notes, **pages.as_json(found), "page": str(page)}
        typer.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    for note in notes:
        out.print(note, highlight=False)
    out.print(pages.as_table(found))
    out.print(f"Page: {page.resolve()}", soft_wrap=True, highlight=False)


def _found(run: str, store: Path | None, **which: str | None) -> Log:
    from surefoot.insight import log
    from surefoot.runs import Store

    if store is not None:
        with Store(store) as runs:
            return log.from_store(runs, run)
    if not Path(run).exists():
        raise ValueError(f"there is no file {run}; name one with losses, or with --store a run of that store")
    return log.from_file(run, **which)


def _explained(log: Log, policy: str | None, base: float | None, steps: int | None, *, again: bool) -> tuple[Trace, list[str]]:
    """The trace, and what has to be known to read it."""
    from surefoot.insight.again import measured

    if policy is None and log.driver is None:
        raise ValueError(f"{log.name} was driven by no learned policy; name one with --policy to see what it would have done")
    if again:
        log = measured(log, policy)
    return _replayed(log) if policy is None else _advised(log, policy, base, steps)


def _replayed(log: Log) -> tuple[Trace, list[str]]:
    """A run that the policy drove: the same fold again."""
    from surefoot.insight.tracing import trace

    assert log.driver is not None
    assert log.trial is not None
    found = trace(log.driver, log.losses, base=log.trial.base, signals=log.signals)
    pairs = zip(log.rates or [], (row.rate for row in found.rows), strict=True)
    apart = max((abs(here - there) / there for there, here in pairs if there > 0.0), default=0.0)
    agrees = "as the store has them" if apart < 1e-3 else "NOT those in the store: the policy or its file has changed since"  # noqa: PLR2004
    return found, [f"Folded again from the losses in the store. The rates are {agrees}; they differ by {apart:.1g} at most."]


def _advised(log: Log, policy: str, base: float | None, steps: int | None) -> tuple[Trace, list[str]]:
    """A run that something else drove."""
    from surefoot.insight.tracing import trace
    from surefoot.learned import Learned

    length = (log.trial.steps if log.trial else len(log.losses)) if steps is None else steps
    if base is None and log.rates:
        base = log.trial.base if log.trial else next((rate for rate in log.rates if rate > 0.0), 1.0)
    driver = Learned(policy, steps=length or None)
    known = {name: log.signals[name] for name in driver.card.features.signals if name in log.signals}
    found = trace(driver, log.losses, base=base or 1.0, rates=log.rates, signals=known)
    if log.rates is None:
        how = (
            "The log has no rates: the policy is shown the rates that it would have set itself, while the losses are those of "
            f"whatever was set then. Its base is taken to be {base or 1.0:g}."
        )
    else:
        how = (
            f"Not driven by {policy}: it is shown these losses and rates, and says at each decision what it would do there. "
            f"Nothing followed its advice. The scale it sees is the rate over a base of {base:g}, which need not be the one "
            "that it would have been started with."
        )
    return found, [how, _budget(length)]


def _budget(steps: int) -> str:
    return f"The budget is taken to be {steps:,} steps, and known." if steps else "The budget is taken to be unknown."
