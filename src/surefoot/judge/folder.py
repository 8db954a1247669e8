"""The folder of a judgement: which study it holds, who was judged in it, and the rows."""

from __future__ import annotations

import json
from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from surefoot import __version__, checks, document
from surefoot.appended import JournalError
from surefoot.engine import TRAINING, perform
from surefoot.judge import arenas, blocks, study
from surefoot.judge.entrants import Candidate
from surefoot.judge.rows import Rows
from surefoot.judge.study import Findings, Study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from surefoot.engine import Engine, Event, Limits
    from surefoot.judge.arenas import Arena
    from surefoot.judge.blocks import Block
    from surefoot.judge.rows import Key, RunRow

NAME = "study.json"
KINDS = ("nmf", "networks")


def arenas_of(on: str, *, quick: bool = False) -> list[Arena]:
    """Where policies are judged.

    Args:
        on: One of `KINDS`.
        quick: Whether to have few and small ones, for a look that claims nothing.

    Raises:
        ValueError: There is no such kind.
    """
    checks.one_of("on", on, KINDS)
    if on == "nmf":
        from surefoot.judge.factorisations import arenas as made
    else:
        from surefoot.judge.nets import arenas as made
    return made(quick=quick)


def carry_out(
    folder: Path,
    on: str,
    candidates: Sequence[Candidate],
    *,
    quick: bool,
    engine: Engine,
    limits: Limits | None = None,
    only: Sequence[str] = (),
    tell: Callable[[Block, int], None] = lambda *_: None,
    on_event: Callable[[Event], None] = lambda _event: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> tuple[list[Findings], list[Candidate]]:
    """Train what is missing in a folder, and return what came of everything in it.

    Args:
        folder: Made if it is not there.
        on: One of `KINDS`.
        candidates: Who is judged, besides those who were before.
        quick: Whether only to have a look.
        engine: Where, within its context.
        limits: What a block may take; the usual if None.
        only: Names of arenas to look at; all if empty.
        tell: Called with every block that is finished, and the number of rows there are.
        on_event: Called with all that happens to blocks.
        on_interrupt: Called at the first Ctrl-C.

    Raises:
        ValueError: There is no arena of a name.
        JournalError: The folder holds another study, or another process is writing to it.
        WorkError: Some blocks could not be trained; it is raised when all are that were begun with them.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    everywhere = arenas_of(on, quick=quick)
    check(everywhere, only)
    folder.mkdir(parents=True, exist_ok=True)
    with Rows(folder) as rows:
        known = _entered(folder, on, quick, everywhere, candidates)

        def train(missing: Sequence[Block]) -> None:
            preload = TRAINING if on == "networks" else (blocks.__name__,)
            asked: dict[str, Any] = {"limits": limits, "tell": on_event, "on_interrupt": on_interrupt}
            with closing(perform(engine, blocks.run, missing, preload=preload, **asked)) as finished:
                for block, made in finished:
                    rows.add(made)
                    tell(block, len(rows.there))

        found = _outcomes(everywhere, rows.there, train, known, only)
        rows.finish()
    return found, known


def read(folder: Path, only: Sequence[str] = ()) -> tuple[list[Findings], list[Candidate]]:
    """What came of everything in a folder, or only of some of its arenas; nothing may be missing there.

    Raises:
        ValueError: There is no arena of a name.
        JournalError: The folder holds no finished study.
    """
    there = Rows.read(folder)
    kept = _kept(folder)
    everywhere = arenas_of(kept["on"], quick=kept["quick"])
    check(everywhere, only)
    if kept["definition"] != definition(everywhere):
        raise JournalError(f"{folder} holds a study of another version, {kept['surefoot']}; judge again in another folder")

    def train(missing: Sequence[Block]) -> None:
        block = missing[0]
        raise JournalError(
            f"{folder} is not finished: it lacks {len(missing)} blocks, {block.label} on {block.arena.name} among them; "
            f"go on with `surefoot judge {block.label} --on {kept['on']} --out {folder}`"
        )

    known = [Candidate(**who) for who in kept["candidates"]]
    return _outcomes(everywhere, there, train, known, only), known


def definition(everywhere: Sequence[Arena]) -> str:
    """What the rows of a study depend on, in 16 hexadecimal digits."""
    constants = (arenas.TRIED, arenas.SEARCHED, study.EXTENSIONS, study.MORE, blocks.EVALUATIONS, blocks.POINTS)
    return sha256(repr((constants, list(everywhere))).encode()).hexdigest()[:16]


def _outcomes(
    everywhere: Sequence[Arena],
    there: dict[Key, RunRow],
    train: Callable[[Sequence[Block]], None],
    candidates: Sequence[Candidate],
    only: Sequence[str],
) -> list[Findings]:
    judged = Study(everywhere, there, train)
    chosen = [arena for arena in everywhere if arena.judging and (not only or arena.name in only)]
    return [judged.outcome(arena, candidates) for arena in chosen]


def check(everywhere: Sequence[Arena], only: Sequence[str]) -> None:
    """Raise unless there are arenas of these names.

    Raises:
        ValueError: There are not.
    """
    names = [arena.name for arena in everywhere if arena.judging]
    if unknown := [name for name in only if name not in names]:
        raise ValueError(f"there is no arena {unknown[0]!r}; choose from {', '.join(names)}")


def _entered(
    folder: Path, on: str, quick: bool, everywhere: Sequence[Arena], candidates: Sequence[Candidate]
) -> list[Candidate]:
    """All who are judged in a folder, the new ones noted down."""
    now: dict[str, Any] = {"on": on, "quick": quick, "definition": definition(everywhere), "surefoot": __version__}
    known: dict[str, Candidate] = {}
    if (folder / NAME).exists():
        kept = _kept(folder)
        if any(kept[name] != now[name] for name in ("on", "quick", "definition")):
            raise JournalError(f"{folder} holds another study, on {kept['on']}; name another folder with --out")
        known = {who["label"]: Candidate(**who) for who in kept["candidates"]}
    known |= {who.label: who for who in candidates}
    now["candidates"] = [who._asdict() for who in known.values()]
    document.write(folder / NAME, json.dumps(now, indent=2) + "\n")
    return list(known.values())


def _kept(folder: Path) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads((folder / NAME).read_text("utf-8"))
        return {name: kept[name] for name in ("on", "quick", "definition", "surefoot", "candidates")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalError(
            f"{folder / NAME} does not say which study this is; name a folder that `surefoot judge` made"
        ) from error
