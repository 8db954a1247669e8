"""`surefoot learn --from`: from runs that are there already."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from surefoot import __version__
from surefoot.terminal import failing, out, refusing, typed

if TYPE_CHECKING:
    from pathlib import Path

    from surefoot.learn.awr import Regression
    from surefoot.policy_file import Card


def learn_from(store: Path, path: Path, *, tier: str = "loss", as_json: bool = False) -> None:
    """Fit a policy to the runs of a store, and write it.

    Args:
        store: The file of runs.
        path: Where the policy goes, without an ending.
        tier: What it sees.
        as_json: Whether JSON is printed.
    """
    with failing(), refusing():
        from surefoot.learn.awr import Regression, constant, from_store
        from surefoot.policy_file import write
        from surefoot.runs import Store

        if not store.is_file():
            raise ValueError(f"there is no store {store}; name a file that `surefoot compare` made")
        settings = Regression(control=partial(constant, tier=tier))
        with Store(store) as runs:
            network, found = from_store(runs, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        card = write(path, network, _card(path.name, settings, network.sizes, {"store": store.name, **found}))
    if as_json:
        told = {"version": __version__, "policy": str(path), "found": found, "card": json.loads(card.to_json())}
        typer.echo(json.dumps(told, indent=2))
        return
    out.print(said(found), highlight=False, soft_wrap=True)
    out.print(f"Policy: {path}.safetensors and {path}.json", highlight=False, soft_wrap=True)


def said(found: dict[str, Any]) -> str:
    """What it was learned from, in a sentence."""
    paired = (
        f"{found['paired']:,} of them compared with other runs of their seed" if found["paired"] else "each run taken alone"
    )
    counted = found["effective"] * found["decisions"]
    return f"{found['runs']:,} runs, {found['decisions']:,} decisions, {paired}; they count as {counted:,.0f} of equal weight."


def _card(name: str, settings: Regression, layers: tuple[int, ...], found: dict[str, Any]) -> Card:
    from surefoot.policy_file import Card

    how = {key: value for key, value in asdict(settings).items() if key != "control"}
    return Card.of(
        settings.control(1),
        hidden=layers[1:-1],
        name=name,
        description=f"Learned from {found['runs']:,} runs that were there already, by advantage-weighted regression.",
        training={"command": typed(), "settings": json.loads(json.dumps(how)), **found},
        surefoot=__version__,
    )
