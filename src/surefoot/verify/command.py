"""`surefoot verify-nmf`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surefoot import __version__
from surefoot.terminal import FAILED, STOPPED, JsonOption, PageOption, err, failing, out, progress, refusing, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.verify.journal import Journal
    from surefoot.verify.run import Piece, Verdict


def verify_nmf(
    *,
    problems: Annotated[
        int, typer.Option("--problems", "-n", help="How many random problems; their seeds are 0, 1, 2 and so on.")
    ] = 10_000,
    rows: Annotated[
        Path, typer.Option("--rows", help="File that keeps what was found, one JSON object on each line.", dir_okay=False)
    ] = Path("surefoot-nmf.jsonl"),
    page: PageOption = Path("surefoot-nmf.html"),
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for the pictures, as SVG.", file_okay=False)
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes to check in; 0 for one per core.")] = 0,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Check nothing: judge and draw what --rows holds, also as .jsonl.xz.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the stability bounds of the factorisation: that they hold where proved, and fail where they must.

    What was found is kept: the same command goes on where it was stopped, and a larger one checks only what is missing.
    The exit code is 0 if every expectation is met, and 1 if one is not. Forty problems are enough to see every failure that
    must be seen; with fewer some may be missed.

    Example: surefoot verify-nmf --problems 500
    """
    from surefoot.verify.run import judge, plan

    if redraw:
        from surefoot.verify.journal import read

        with refusing():
            if not rows.is_file():
                raise ValueError(f"there is no file {rows}; name one that `surefoot verify-nmf` made")
        with failing():
            verdicts = judge(read(rows), strict=False)
        _present(verdicts, page=page, pictures=pictures, rows=rows, as_json=as_json)
        return
    with refusing():
        everything = plan(problems)
    with failing():
        from surefoot.verify.journal import Journal

        with Journal(rows) as journal:
            _check(plan(problems, journal.lines), len(everything), journal, workers or os.cpu_count() or 1)
            verdicts = judge(journal.lines, problems)
    _present(verdicts, page=page, pictures=pictures, rows=rows, as_json=as_json)


def _check(pieces: Sequence[Piece], of: int, journal: Journal, workers: int) -> None:
    from surefoot.engine import Local
    from surefoot.verify.run import execute

    there = of - len(pieces)
    if there > 0:
        say(f"{there} of {of} pieces are in {journal.path} already.")
    with progress() as bar:
        task = bar.add_task("Checking", total=of, completed=max(there, 0))
        try:
            for piece in execute(pieces, journal, engine=Local(workers), on_interrupt=_say_stopping):
                there += 1
                bar.advance(task)
                if not err.is_terminal:
                    say(f"{there}/{of} problems {piece.seeds[0]} to {piece.seeds[-1]}, {piece.rules[0]} to {piece.rules[-1]}")
        except KeyboardInterrupt:
            bar.stop()
            say(f"Stopped. What was found is kept in {journal.path}; the same command goes on from there.")
            raise typer.Exit(STOPPED) from None


def _say_stopping() -> None:
    say("Finishing the checks that are under way; press Ctrl-C again to leave at once.")


def _present(verdicts: Sequence[Verdict], *, page: Path, pictures: Path | None, rows: Path, as_json: bool) -> None:
    from surefoot.verify import page as pages
    from surefoot.verify.pictures import drawings

    with failing():
        pages.write(page, verdicts, command=shlex.join(["surefoot", *sys.argv[1:]]))
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            for name, drawing in drawings(verdicts).items():
                (pictures / f"nmf-{name}.svg").write_text(drawing, "utf-8")
    is_met = all(verdict.is_met for verdict in verdicts)
    if as_json:
        listed = [pages.as_json(verdict) for verdict in verdicts]
        found = {"version": __version__, "is_met": is_met, "rules": listed, "page": str(page), "rows": str(rows)}
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        out.print(pages.as_table(verdicts))
        out.print(f"Page: {page.resolve()}", soft_wrap=True, highlight=False)
    if not is_met:
        raise typer.Exit(FAILED)
