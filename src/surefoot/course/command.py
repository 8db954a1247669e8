"""`surefoot learn`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surefoot import __version__
from surefoot.course.offline import learn_from
from surefoot.running import Running, takes_running
from surefoot.telling import leaving
from surefoot.terminal import FAILED, JsonOption, failing, finishing, out, refusing, say, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.course.live import Telling
    from surefoot.course.processes import Order
    from surefoot.learn import Lesson, Record
    from surefoot.policy_file import Card


@takes_running
def learn(
    *,
    running: Running,
    on: Annotated[
        str | None, typer.Option("--on", help="What on: nmf, networks-loss, networks-gradient, or my_problem.py:Problem.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--from", help="In place of --on: a store of runs that are there already.", dir_okay=False)
    ] = None,
    tier: Annotated[str | None, typer.Option("--tier", help="What is seen: loss or gradient; else each lesson's own.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", "-s", min=1, help="How many seeds to learn from, all at once.")] = 3,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="How many rounds; else each lesson's own.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="Begin no round after so many; the same command goes on later.")
    ] = None,
    env_workers: Annotated[
        int, typer.Option("--env-workers", min=0, help="Workers that train for each seed; 0: its learner does.")
    ] = 0,
    folder: Annotated[
        Path, typer.Option("--out", help="Where the policy goes, and all that is kept of its training.", file_okay=False)
    ] = Path("learned"),
    name: Annotated[
        str | None, typer.Option("--name", help="What the policy is called; else after what it is learned on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Learn a policy by reinforcement, from several seeds at once, and keep the best; or from runs that are there already.

    What is learned is kept after every round: the same command goes on where it was stopped, by Ctrl-C or by anything else.
    The same seeds and rounds give the same policy to the last bit. It takes one core for each seed, or seeds take turns.

    Example: surefoot learn --on nmf --minutes 3
    """
    with refusing():
        if (on is None) == (store is None):
            raise ValueError("give exactly one of --on, what to learn on, and --from, runs to learn from")
    if store is not None:
        learn_from(store, folder / _file_name(name or store.stem), tier=tier or "loss", as_json=as_json)
        return
    assert on is not None
    with failing(), refusing():
        from surefoot.course.processes import Order, alone
        from surefoot.learn import lesson
        from surefoot.learn.training import standing

        about = lesson(on, tier=tier)
        settings = about.usual if rounds is None else replace(about.usual, rounds=rounds)
        name = _named(name, about)
        order = Order(on, tier, settings, folder / name, env_workers)
        found = [standing(about, settings, seed, order.place(seed)) for seed in range(seeds)]
        order.folder.mkdir(parents=True, exist_ok=True)
    with failing(), alone(order.folder):
        records, is_over = _learn(order, seeds, found, running, None if minutes is None else monotonic() + 60.0 * minutes)
        _finish(about, records, folder / name, order, as_json=as_json, is_over=is_over)


def _learn(
    order: Order, seeds: int, found: Sequence[Record | None], running: Running, until: float | None
) -> tuple[list[Record], bool]:
    """Learn, tell of it, and return where each seed stands, and whether all of them are done."""
    from surefoot.course.live import Telling
    from surefoot.course.processes import learn as in_workers

    with refusing():
        telling = Telling(running, range(seeds), order.settings.rounds)
    with (
        refusing(),
        leaving(running, lambda: f"What was learned is kept in {order.folder}"),
        telling,
        running.engine() as engine,
    ):
        for record in found:
            if record is not None:
                telling.tell(record, is_new=False)
        if not running.quiet:
            _say_there(telling, order)
        left = [seed for seed in range(seeds) if not _is_done(telling.records.get(seed))]
        asked: dict[str, Any] = {"limits": running.limits, "until": until, "tell": telling.note}
        for record in in_workers(order, left, engine=engine, on_interrupt=finishing("rounds"), **asked) if left else ():
            telling.tell(record)
    records = [telling.records[seed] for seed in sorted(telling.records)]
    return records, len(records) == seeds and all(map(_is_done, records))


def _finish(about: Lesson, records: Sequence[Record], path: Path, order: Order, *, as_json: bool, is_over: bool) -> None:
    """Write the best policy, the picture and the page, and say what they are."""
    from surefoot import document
    from surefoot.course import page
    from surefoot.policy_file import write

    if not is_over:
        say(f"Time is up before the last round. What was learned is kept in {order.folder}; the same command goes on.")
    checked = [record for record in records if record.best]
    if not checked:
        say(f"surefoot: no policy was measured yet, the first is after {_first_check(order)} rounds (take fewer, or go on)")
        raise typer.Exit(FAILED)
    best = min(checked, key=lambda record: record.best["score"])
    card = _card(path.name, about, best, records, order)
    card = write(path, _policy(about, order, best.seed), card)
    text = page.picture(records)
    document.write(path.with_name(f"{path.name}.svg"), text)
    tasks = [f"{task.fleet.name}, {task.fleet.optimizer}" for task, _ in about.tasks]
    notes = [card.description, _summary(best, records)]
    shown = page.write(path.with_name(f"{path.name}.html"), records, name=path.name, tasks=tasks, command=typed(), notes=notes)
    if as_json:
        typer.echo(json.dumps({"version": __version__, "policy": str(path), "card": json.loads(card.to_json())}, indent=2))
        return
    out.print(_summary(best, records), highlight=False, soft_wrap=True)
    out.print(f"Policy: {path}.safetensors and {path}.json", highlight=False, soft_wrap=True)
    out.print(f"Page: {shown.resolve()}", highlight=False, soft_wrap=True)


def _card(name: str, about: Lesson, best: Record, records: Sequence[Record], order: Order) -> Card:
    """What is to be said of the policy."""
    from surefoot.policy_file import Card

    return Card.of(
        about.control,
        hidden=order.settings.hidden,
        name=name,
        description=f"Learned by proximal policy optimisation on {about.name}.",
        training={
            "command": typed(),
            "on": about.name,
            "seed": best.seed,
            "round": best.best["round"],
            "score": best.best["score"],
            "transitions": best.transitions,
            "seconds": best.seconds,
            "seeds": [_of_seed(record) for record in records],
            "settings": json.loads(json.dumps(asdict(order.settings))),
            "problems": [
                {"name": task.fleet.name, "optimizer": task.fleet.optimizer, "steps": task.steps, "slots": slots}
                for task, slots in about.tasks
            ],
        },
        surefoot=__version__,
    )


def _of_seed(record: Record) -> dict[str, Any]:
    rewards = [round(line["reward"], 4) for line in record.curve]
    said = {"seed": record.seed, "rounds": record.done, **record.best, "transitions": record.transitions}
    return said | {"seconds": record.seconds, "rewards": rewards}


def _policy(about: Lesson, order: Order, seed: int) -> Any:
    from surefoot.learn.training import policy_in

    return policy_in(about, order.settings, seed, order.place(seed))


def _summary(best: Record, records: Sequence[Record]) -> str:
    scores = ", ".join(f"{record.best['score']:+.3f} from seed {record.seed}" for record in records if record.best)
    return (
        f"Kept is what seed {best.seed} had learned after round {best.best['round']} of {best.of}. Behind the tuned schedules "
        f"on validation seeds, in natural logarithms of the held-out loss (below 0 is ahead): {scores}. "
        f"{sum(record.transitions for record in records):,} decisions in all."
    )


def _named(name: str | None, about: Lesson) -> str:
    """The policy's name, which is that of files as well."""
    if name is None:
        name = about.name if ":" not in about.name else Path(about.name.rpartition(":")[0]).stem
    return _file_name(name)


def _file_name(name: str) -> str:
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"a name must be one that a file can have, without folders, got {name!r} (folders go to --out)")
    return name


def _say_there(telling: Telling, order: Order) -> None:
    if telling.records:
        there = ", ".join(f"{record.done} of seed {record.seed}" for record in telling.records.values())
        say(f"There are rounds in {order.folder} already: {there}.")


def _is_done(record: Record | None) -> bool:
    return record is not None and record.done >= record.of


def _first_check(order: Order) -> int:
    return next(done for done in range(1, order.settings.rounds + 1) if order.settings.is_check(done))
