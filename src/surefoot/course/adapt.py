"""`surefoot adapt`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surefoot import __version__, catalogue
from surefoot.terminal import JsonOption, failing, out, refusing, say, stop

if TYPE_CHECKING:
    from surefoot.learn.adapt import Adapted, Gain


def adapt(
    name: Annotated[str, typer.Argument(help="A learned policy: a name, or the path of its file.")],
    *,
    on: Annotated[str, typer.Option("--on", help="What to adapt to: a problem of the catalogue, or my_problem.py:Problem.")],
    optimizer: Annotated[str, typer.Option("--optimizer", "-o", help="The optimizer, of a problem of the catalogue.")] = "sgd",
    runs: Annotated[int, typer.Option("--runs", min=4, help="Runs that explore, an even number.")] = 20,
    fresh: Annotated[
        int, typer.Option("--fresh", min=3, help="Seeds to compare old and new on, and as many others again.")
    ] = 8,
    rate: Annotated[float | None, typer.Option("--rate", help="Base learning rate; else the problem's own.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Budget in optimizer steps; else the problem's own.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first of the seeds to explore from.")] = 0,
    folder: Annotated[
        Path, typer.Option("--out", help="Where the new policy goes, and the runs are kept.", file_okay=False)
    ] = Path("adapted"),
    as_json: JsonOption = False,
) -> None:
    """Adapt a learned policy to one problem by repeated runs of it, and say what that gained.

    A new policy is written only if it is better on fresh seeds, beyond chance. Runs are kept: the same command goes on where it
    was stopped, by Ctrl-C or by anything else.

    Example: surefoot adapt nmf --on digits-nmf --runs 20
    """
    with failing(), refusing():
        from surefoot import policy_file
        from surefoot.learn.adapt import Adaptation, adapt
        from surefoot.runs import Store

        problem = _problem(on, optimizer)
        path = folder / f"{Path(name).stem}-on-{problem.name}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = Adaptation(runs=runs, fresh=fresh, seed=seed)
        try:
            with Store(path.with_suffix(".sqlite")) as store:
                found = adapt(name, problem, store, settings, base=rate, steps=steps, told=lambda part: say(f"{part}."))
        except KeyboardInterrupt:
            stop(lambda: f"Finished runs are kept in {path}.sqlite")
        if found.is_new:
            policy_file.write(path, found.network, replace(found.card, name=path.name))
    _tell(found, name, path, as_json=as_json)


def _tell(found: Adapted, name: str, path: Path, *, as_json: bool) -> None:
    if as_json:
        gains = {"check": _plain(found.check), "gain": None if found.gain is None else _plain(found.gain)}
        where = str(path) if found.is_new else None
        told = {"version": __version__, "policy": name, "is_new": found.is_new, "runs": found.runs, **gains, "written": where}
        typer.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    out.print(sentence(found, name), highlight=False, soft_wrap=True)
    if found.is_new:
        out.print(f"Policy: {path}.safetensors and {path}.json", highlight=False, soft_wrap=True)


def sentence(found: Adapted, name: str) -> str:
    """What came of an adaptation, in words."""
    first = f"{found.runs} runs. On the seeds that decide: {_said(found.check)}."
    if found.gain is None:
        return f"No gain. {first} That is not shown to be better than {name}, which stays as it is."
    if not found.is_new:
        return f"No gain. {first} On others: {_said(found.gain)}. {name} stays as it is."
    return f"Gained: {first} On others, which no decision has seen: {_said(found.gain)}."


def _said(gain: Gain) -> str:
    mean = "held-out loss {:+.1%}, 95% interval {:+.1%} to {:+.1%}".format(
        *(end - 1.0 for end in (gain.ratio, gain.low, gain.high))
    )
    return f"{mean.replace('-', chr(0x2212))}, {len(gain.before)} seeds in pairs".replace(f"95{chr(0x2212)}", "95-")


def _plain(gain: Gain) -> dict[str, Any]:
    losses = {which: [loss if loss == loss else None for loss in getattr(gain, which)] for which in ("before", "after")}  # noqa: PLR0124
    return {"ratio": gain.ratio, "low": gain.low, "high": gain.high, **losses}


def _problem(on: str, optimizer: str) -> Any:
    """A problem of the catalogue, or of a user's file."""
    from surefoot.learn import own

    if ":" not in on:
        return catalogue.problem(on, optimizer)
    found, _ = own.load(on)
    if len(found) != 1 or not own.is_problem(found[0]):
        raise ValueError(f"{on} must be one problem to adapt to, got {len(found)} things (name one)")
    return found[0]
