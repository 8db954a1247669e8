"""`surefoot verify-nmf`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surefoot import __version__
from surefoot.running import Running, takes_running
from surefoot.telling import Telling, leaving
from surefoot.terminal import FAILED, JsonOption, PageOption, failing, finishing, out, refusing, say, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.verify.journal import Journal
    from surefoot.verify.run import Piece, Verdict


@takes_running
def verify_nmf(
    *,
    running: Running,
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
            _check(plan(problems, journal.lines), everything, journal, running)
            verdicts = judge(journal.lines, problems)
    _present(verdicts, page=page, pictures=pictures, rows=rows, as_json=as_json)


def _check(pieces: Sequence[Piece], everything: Sequence[Piece], journal: Journal, running: Running) -> None:
    from surefoot.verify.run import execute

    total, left = (Counter(map(_part, some)) for some in (everything, pieces))
    there = total - left
    if there and not running.quiet:
        say(f"{there.total()} of {total.total()} pieces are in {journal.path} already.")
    with refusing():
        telling = Telling(running, "problems", name=_name, part=_part, of=there + left, there=there)
    with (
        refusing(),
        leaving(running, lambda: f"What was found is kept in {journal.path}"),
        telling,
        running.engine() as engine,
    ):
        asked: dict[str, Any] = {"limits": running.limits, "tell": telling.tell, "on_interrupt": finishing("checks")}
        for piece in execute(pieces, journal, engine=engine, **asked):
            telling.kept(_part(piece), _name(piece))


def _part(piece: Piece) -> str:
    return f"{piece.seeds[0]} to {piece.seeds[-1]}"


def _name(piece: Piece) -> str:
    return f"problems {_part(piece)}, {piece.rules[0]} to {piece.rules[-1]}"


def _present(verdicts: Sequence[Verdict], *, page: Path, pictures: Path | None, rows: Path, as_json: bool) -> None:
    from surefoot.verify import page as pages
    from surefoot.verify.pictures import drawings

    with failing():
        pages.write(page, verdicts, command=typed())
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
