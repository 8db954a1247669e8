"""`surefoot policies`: those that can be named, and the cards of those that were learned."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surefoot import lineup, policy_file, tables
from surefoot.spec import to_dict
from surefoot.terminal import JsonOption, out, refusing

if TYPE_CHECKING:
    from surefoot.policy_file import Card

_EXAMPLE_STEPS = 1000

policies = typer.Typer()


@policies.callback(invoke_without_command=True)
def listed(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the policies that can be compared; `show` prints the card of one that was learned."""
    if context.invoked_subcommand is not None:
        return
    made = {name: make(_EXAMPLE_STEPS) for name, make in lineup.LINEUP.items()}
    if as_json:
        rows = [{"policy": name, "description": lineup.describe(name), "settings": to_dict(made[name])} for name in made]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = tables.plain("policy", "what it does", f"settings for {_EXAMPLE_STEPS} steps")
    for name, policy in made.items():
        table.add_row(name, lineup.describe(name), tables.settings(policy))
    out.print(table)
    out.print('Change settings in brackets: --policy "greedy(patience=5, window=20),cosine(end=0.1)"')
    out.print("Learned policies from files: --policy \"learned(name='mine.json')\"; their cards: surefoot policies show NAME")


@policies.command()
def show(
    name: Annotated[str, typer.Argument(help="A learned policy that comes with surefoot, or a file of one.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Print the card of a learned policy: what it sees and does, where it comes from, what it was measured to be worth."""
    with refusing():
        own = name.removeprefix("learned-")
        _, card = policy_file.read(own if own in policy_file.shipped() else name)
    if as_json:
        typer.echo(card.to_json(), nl=False)
        return
    _print(card)


def _print(card: Card) -> None:
    out.print(f"{card.name}: {card.description}", highlight=False)
    for title, entries in (("What it does", _does(card)), ("Where it comes from", card.training), ("The file", _file(card))):
        if entries:
            table = tables.plain("", "")
            table.title, table.show_header = title, False
            for key, value in entries.items():
                table.add_row(str(key), _text(value))
            out.print(table)
    if card.judged:
        columns = list(dict.fromkeys(key for row in card.judged for key in row))
        table = tables.plain(*columns)
        table.title = "What it was measured to be worth"
        for row in card.judged:
            table.add_row(*(_text(row.get(column, "")) for column in columns))
        out.print(table)


def _does(card: Card) -> dict[str, Any]:
    settings = ", ".join(f"{name}={value}" for name, value in card.schedule.items() if name != "is")
    windows = f"after windows of {', '.join(map(str, card.first))} steps, then " if card.first else ""
    return {
        "corrects": f"{card.schedule['is']}({settings}) where the budget is known, else a constant rate",
        "decides": f"before the first step, {windows}every {card.window} steps",
        "multiplies": f"the scale by up to {card.rise:g}, or divides it by up to {card.cut:g}",
        "takes alarm": "never"
        if card.alarm == inf
        else f"at {card.alarm:g} times the usual loss, and divides the scale by {card.rescue:g}",
        "sees": ", ".join(card.inputs),
        "network": " x ".join(map(str, card.layers)),
    }


def _file(card: Card) -> dict[str, Any]:
    return {"format": card.format, "trained with surefoot": card.surefoot, "sha256": card.sha256}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
