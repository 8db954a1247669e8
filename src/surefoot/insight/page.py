"""The page, the table and the JSON of a trace."""

from __future__ import annotations

from html import escape
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot import document, tables
from surefoot.insight import pictures
from surefoot.insight.tracing import GUARDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from surefoot.insight.tracing import Moment, Trace

_LEFT = ' style="text-align: left"'

READING = {
    "Decisions": "A triangle at each, up or down; between them the rate follows the policy's schedule.",
    "Credits": "How much each feature added to an action, by integrated gradients: what the network says of this view, less "
    "what it says of a view in which everything is 0. They say what the network reacted to, and nothing of what was right.",
    "Features": "What is in view before each step, in doublings or fractions; the documentation of Features says how each is "
    "made. Dots are where the policy looked.",
    "Guards": "; ".join(f"{name}: {text}" for name, text in GUARDS.items()) + ".",
    "Point": "At a mark or a cell to read what was decided, and why.",
}


def render(trace: Trace, *, name: str, command: str, notes: Sequence[str] = ()) -> str:
    """An HTML document with everything in it: it loads nothing, and works offline.

    Args:
        trace: What is shown.
        name: The run's name.
        command: The command that made it.
        notes: Paragraphs under the heading.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    drawn = {
        "What it did": (pictures.run(trace), "Loss and rate of every step, and the decisions."),
        "Why": (pictures.decisions(trace), "The actions, and what each feature added to them."),
        "What it saw": (pictures.features(trace), "Every feature over the steps."),
    }
    return document.render(
        title=f"{Path(trace.policy).stem} on {name}",
        command=command,
        notes=[*notes, summary(trace)],
        sections=[
            *(_figure(number, heading, text) for number, (heading, (_, text)) in enumerate(drawn.items())),
            _decided(trace),
        ],
        reading=READING,
        specs=[spec for spec, _ in drawn.values()],
    )


def write(path: str | Path, trace: Trace, *, name: str, command: str, notes: Sequence[str] = ()) -> Path:
    """Write the page, all of it or nothing, and return its path.

    Raises:
        ImportError: vl-convert-python is not installed.
        OSError: The file cannot be written.
    """
    return document.write(path, render(trace, name=name, command=command, notes=notes))


def summary(trace: Trace) -> str:
    """What was decided, in a sentence, and which features did most of it."""
    made = trace.decisions
    raised = sum((row.factor or 1.0) > 1.0 for row in made)
    lowered = sum((row.factor or 1.0) < 1.0 for row in made)
    alarms = sum("alarm" in row.guard for row in trace.rows)
    moved = {name: sum(abs(row.moved[name]) for row in made) / len(made) for name in made[0].moved}
    most = sorted(moved, key=lambda name: -moved[name])[:3]
    return (
        f"{len(trace.rows):,} steps, {len(made):,} decisions: {raised:,} raised the rate and {lowered:,} lowered it; "
        f"{alarms:,} alarm{'' if alarms == 1 else 's'}. What moved the actions most: "
        f"{', '.join(f'{name} ({moved[name]:.2f} on average)' for name in most)}."
    )


def as_table(trace: Trace) -> Table:
    """The decisions for a terminal."""
    table = tables.plain("step", "loss", "rate", "action", "decision", "guard")
    for row in shown(trace):
        table.add_row(*_cells(row))
    for column in table.columns[:4]:
        column.justify = "right"
    table.caption = summary(trace)
    return table


def as_json(trace: Trace) -> dict[str, Any]:
    """All rows for JSON, with null for what is not finite."""
    rows = [
        row._asdict() | {"loss": _finite(row.loss), "guard": row.guard.split(",") if row.guard else []} for row in trace.rows
    ]
    return {"policy": trace.policy, "advised": trace.advised, "summary": summary(trace), "rows": rows}


def shown(trace: Trace) -> list[Moment]:
    """The rows of decisions and alarms."""
    return [row for row in trace.rows if row.action is not None or "alarm" in row.guard]


def _cells(row: Moment) -> list[str]:
    action = "" if row.action is None else f"{row.action:+.2f}".replace("-", "\N{MINUS SIGN}")
    return [f"{row.step:,}", f"{row.loss:.4g}", f"{row.rate:.3g}", action, row.why, row.guard.replace(",", ", ")]


def _figure(number: int, heading: str, text: str) -> str:
    return f"""<section>
<h2>{escape(heading)}</h2>
<p class="quiet">{escape(text)}</p>
<figure id="figure-{number}" aria-label="{escape(heading)}"></figure>
</section>"""


def _decided(trace: Trace) -> str:
    heads = ["step", "decision", "loss", "rate", "action", "guard"]
    head = "".join(f'<th scope="col"{_LEFT * (text == "decision")}>{escape(text)}</th>' for text in heads)
    rows = []
    for row in shown(trace):
        step, loss, rate, action, why, guard = map(escape, _cells(row))
        told = why or GUARDS["alarm"]
        rows.append(
            f"<tr><td>{step}</td><td{_LEFT}>{told}</td><td>{loss}</td><td>{rate}</td><td>{action}</td><td>{guard}</td></tr>"
        )
    body = "\n".join(rows)
    return f"""<section>
<h2>Every decision</h2>
<table class="decided">
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</section>"""


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
