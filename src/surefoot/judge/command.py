"""`surefoot judge`."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surefoot import __version__, checks
from surefoot.running import Running, takes_running
from surefoot.telling import Telling, leaving
from surefoot.terminal import JsonOption, failing, finishing, out, refusing, say, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.judge.blocks import Block
    from surefoot.judge.entrants import Candidate
    from surefoot.judge.rows import RunRow
    from surefoot.judge.study import Findings


@takes_running
def judge(
    policy: Annotated[
        list[str] | None, typer.Argument(help="Who is judged: learned policies by name or file, or any that can be compared.")
    ] = None,
    *,
    running: Running,
    on: Annotated[str, typer.Option("--on", help="Problems to judge on: nmf or networks.")] = "nmf",
    quick: Annotated[bool, typer.Option("--quick", help="Few and small problems: a look that claims nothing.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the rows and the page; else surefoot-judge-NMF and the like.")
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Arenas to look at, with commas between; else all.")] = "",
    redraw: Annotated[bool, typer.Option("--redraw", help="Train nothing: judge and draw what --out holds.")] = False,
    note: Annotated[
        Path | None,
        typer.Option("--note", help="File of a learned policy, to write on its card what it was found to be worth."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what policies are worth on problems never seen, against rivals that know as much and searches that try more.

    Everything is kept: the same command goes on where it was stopped, and another policy meets the same rivals' runs.

    Example: surefoot judge nmf --on nmf --quick
    """
    from surefoot.judge import folder as folders
    from surefoot.judge.entrants import candidate

    with refusing():
        if not (policy or redraw):
            raise ValueError("name at least one policy to judge, such as greedy or the file of a learned one")
        if redraw and (folder is None or not folder.is_dir()):
            raise ValueError(f"there is no folder {folder or ''}; name one that `surefoot judge` made with --out")
        if note is not None and not note.is_file():
            raise ValueError(f"there is no file {note} to note anything in; name either file of a learned policy")
        checks.one_of("on", on, folders.KINDS)
        judged = [candidate(entry) for entry in policy or []]
        chosen = [name.strip() for name in only.split(",") if name.strip()]
        if not redraw:
            folders.check(folders.arenas_of(on, quick=quick), chosen)
    place = folder or Path(f"surefoot-judge-{on}{'-quick' if quick else ''}")
    with failing():
        if redraw:
            with refusing():
                found, who = folders.read(place, chosen)
        else:
            found, who = _carry_out(place, on, judged, chosen, quick=quick, running=running)
        if note is not None:
            from surefoot.judge.note import write_on

            with refusing():
                count = write_on(note, found)
            say(f"The card of {note} says now what it was worth on {count} problems.")
        _present(place, found, who, as_json=as_json)


def _carry_out(
    place: Path, on: str, judged: Sequence[Candidate], only: Sequence[str], *, quick: bool, running: Running
) -> tuple[list[Findings], list[Candidate]]:
    from surefoot.judge.folder import carry_out

    with refusing():
        telling = Telling(running, "arena", name=_name, part=lambda block: block.arena.name, best=_best)

    def tell(block: Block, rows: int) -> None:
        telling.kept(block.arena.name, f"{_name(block)}, {rows} in all")

    with (
        refusing(),
        leaving(running, lambda: f"Finished runs are kept in {place}"),
        telling,
        running.engine() as engine,
    ):
        return carry_out(
            place,
            on,
            judged,
            quick=quick,
            engine=engine,
            limits=running.limits,
            only=only,
            tell=tell,
            on_event=telling.tell,
            on_interrupt=finishing("blocks"),
        )


def _name(block: Block) -> str:
    return f"{block.arena.name}, {block.label}, {block.limits}: {len(block.keys)} runs"


def _best(_: Block, rows: Sequence[RunRow]) -> tuple[float, str] | None:
    best = min(rows, key=lambda row: row.final)
    return (best.final, f"{best.key.policy}, {best.key.limits}") if isfinite(best.final) else None


def _present(place: Path, found: Sequence[Findings], who: Sequence[Candidate], *, as_json: bool) -> None:
    from surefoot.judge import page as pages

    page = pages.write(place / "page.html", found, who, command=typed())
    labels = [each.label for each in who]
    if as_json:
        said = {"version": __version__, **pages.as_json(found, labels), "page": str(page)}
        typer.echo(json.dumps(said, indent=2, allow_nan=False))
        return
    out.print(pages.as_table(pages.all_claims(found, labels)))
    out.print(f"Page: {page.resolve()}", soft_wrap=True, highlight=False)
