"""`surefoot judge`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surefoot import __version__, checks
from surefoot.terminal import STOPPED, JsonOption, err, failing, out, progress, refusing, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.judge.blocks import Block
    from surefoot.judge.entrants import Candidate
    from surefoot.judge.study import Findings


def judge(
    policy: Annotated[
        list[str] | None, typer.Argument(help="Who is judged: learned policies by name or file, or any that can be compared.")
    ] = None,
    *,
    on: Annotated[str, typer.Option("--on", help="Problems to judge on: nmf or networks.")] = "nmf",
    quick: Annotated[bool, typer.Option("--quick", help="Few and small problems: a look that claims nothing.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the rows and the page; else surefoot-judge-NMF and the like.")
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Arenas to look at, with commas between; else all.")] = "",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes to train in; 0 for one per core.")] = 0,
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
            found, who = _carry_out(place, on, judged, chosen, quick=quick, workers=workers or os.cpu_count() or 1)
        if note is not None:
            from surefoot.judge.note import write_on

            with refusing():
                count = write_on(note, found)
            say(f"The card of {note} says now what it was worth on {count} problems.")
        _present(place, found, who, as_json=as_json)


def _carry_out(
    place: Path, on: str, judged: Sequence[Candidate], only: Sequence[str], *, quick: bool, workers: int
) -> tuple[list[Findings], list[Candidate]]:
    from surefoot.engine import Local
    from surefoot.judge.folder import carry_out

    with progress() as bar:
        task = bar.add_task("Judging", total=None)

        def tell(block: Block, rows: int) -> None:
            line = f"{block.arena.name}, {block.label}, {block.limits}: {len(block.keys)} runs, {rows} in all"
            bar.update(task, description=line)
            if not err.is_terminal:
                say(line)

        try:
            return carry_out(place, on, judged, quick=quick, engine=Local(workers), only=only, tell=tell)
        except KeyboardInterrupt:
            bar.stop()
            say(f"Stopped. Finished runs are kept in {place}; the same command goes on from there.")
            raise typer.Exit(STOPPED) from None


def _present(place: Path, found: Sequence[Findings], who: Sequence[Candidate], *, as_json: bool) -> None:
    from surefoot.judge import page as pages

    page = pages.write(place / "page.html", found, who, command=shlex.join(["surefoot", *sys.argv[1:]]))
    labels = [each.label for each in who]
    if as_json:
        said = {"version": __version__, **pages.as_json(found, labels), "page": str(page)}
        typer.echo(json.dumps(said, indent=2, allow_nan=False))
        return
    out.print(pages.as_table(pages.all_claims(found, labels)))
    out.print(f"Page: {page.resolve()}", soft_wrap=True, highlight=False)
