"""The learning curve as a picture and a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from surefoot import document
from surefoot.vega import Spec, svg, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from surefoot.learn import Record

WIDTH, HEIGHT, GAP = 470, 260, 50
READING = {
    "Reward": "What a slot earned in a round with actions drawn at random: by how much the loss's natural logarithm fell.",
    "Behind": "Natural logarithm of the held-out loss at the end over that of the task's own schedule at its tuned rate, mean "
    "over tasks and validation seeds, with the mean action. Below 0 the policy is ahead, from rates that it did not choose.",
    "Kept": "The policy of the check at which it was least behind, over all seeds.",
}


def curves(records: Sequence[Record]) -> Spec:
    """Rewards of every round, and how far the policy was behind at every check, by seed."""
    rewards = [(f"seed {record.seed}", line["round"], line["reward"]) for record in records for line in record.curve]
    checked = [
        (f"seed {record.seed}", line["round"], line["check"]["mean"])
        for record in records
        for line in record.curve
        if "check" in line
    ]
    seeds, last = [f"seed {record.seed}" for record in records], max(record.of for record in records)
    left = _plot(rewards, seeds, last, {"type": "line", "strokeWidth": 2}, "Reward")
    right = _plot(checked, seeds, last, {"type": "line", "point": True, "strokeWidth": 2}, "Behind the tuned schedule")
    return {"hconcat": [left, right], "spacing": GAP}


def picture(records: Sequence[Record]) -> str:
    """The same as SVG on white.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    return svg(curves(records))


def write(
    path: Path, records: Sequence[Record], *, name: str, tasks: Sequence[str], command: str, notes: Sequence[str]
) -> Path:
    """Write the page, all of it or nothing, and return its path.

    Args:
        path: Where.
        records: Where the training of each seed stands.
        name: Of the policy.
        tasks: What each task is called.
        command: What made it.
        notes: What is to be said about it.

    Raises:
        ImportError: vl-convert-python is not installed.
        OSError: The file cannot be written.
    """
    figure = '<section>\n<h2>Learning curve</h2>\n<figure id="figure-0" aria-label="Learning curve"></figure>\n</section>'
    return document.write(
        path,
        document.render(
            title=f"{name}, a policy in the making",
            command=command,
            notes=notes,
            sections=[figure, _seeds(records), _tasks(records, tasks)],
            reading=READING,
            specs=[curves(records)],
        ),
    )


def _plot(rows: Sequence[Any], seeds: Sequence[str], last: int, mark: Spec, title: str) -> Spec:
    return {
        "data": table(["seed", "round", "value"], rows, numbers=["round", "value"]),
        "mark": {"tooltip": True, **mark},
        "encoding": {
            "x": {
                "field": "round",
                "type": "quantitative",
                "scale": {"domain": [0, last], "nice": False},
                "axis": {"grid": False},
            },
            "y": {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}},
            "color": {
                "field": "seed",
                "type": "nominal",
                "scale": {"domain": list(seeds)},
                "legend": {"orient": "top", "title": None},
            },
        },
        "title": title,
        "width": WIDTH,
        "height": HEIGHT,
    }


def _seeds(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        best = record.best
        figures = [f"{record.done} of {record.of}", f"{record.curve[-1]['reward']:.3f}" if record.curve else ""]
        figures += [f"{best['score']:+.3f}" if best else "", str(best.get("round", "")), f"{record.transitions:,}"]
        figures += [f"{record.seconds:,.0f}"]
        rows.append((f"seed {record.seed}", figures))
    return _table("Every seed", ["rounds", "last reward", "behind", "at round", "decisions", "seconds"], rows)


def _tasks(records: Sequence[Record], tasks: Sequence[str]) -> str:
    """How far each seed's policy was behind in every task when it was measured last."""
    last = {record.seed: [line["check"] for line in record.curve if "check" in line][-1:] for record in records}
    rows = [
        (task, [f"{check['by_task'][place]:+.3f}" for checks in last.values() for check in checks])
        for place, task in enumerate(tasks)
    ]
    return _table("Behind, task by task", [f"seed {seed}" for seed, checks in last.items() if checks], rows)


def _table(heading: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in ("", *heads))
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(figure)}</td>" for figure in figures)}</tr>'
        for name, figures in rows
    )
    return (
        f"<section>\n<h2>{escape(heading)}</h2>\n"
        f'<table class="wide">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</section>'
    )
