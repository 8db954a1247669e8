"""The page, the table and the JSON of a replay."""

from __future__ import annotations

from html import escape
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import document, plots, tables, vega
from surefoot.history import Points

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from surefoot.loss_log import LossLog
    from surefoot.plots import Stretch
    from surefoot.replay.folding import Replayed
    from surefoot.vega import Spec

WIDTH = 1080
_HEADS = ("steps", "from", "to", "why")
OWN = "the log's own rate"
WARNING = (
    "These losses were met at the rates of then. Had one of these policies driven, they would have been different from its "
    "first change on, and so would all that it did afterwards. So this shows how a policy reads such losses, and not how a run "
    "under it would have ended."
)
READING = {
    "Loss": "What the log says; where losses are many, the line is the mean of neighbours, and the band goes from the lowest "
    "to the highest.",
    "Rates": "What each policy would have set after each loss. A mark is where it began to raise or lower the rate for one "
    "reason; point at it to read the reason.",
    "Table": "Changes in a row for the same reason are one line.",
}
_COLOURS = 6  # Of the theme, before the grey that the log's own rate has.


def write(path: str | Path, log: LossLog, found: Sequence[Replayed], *, base: float | None, command: str) -> Path:
    """Write the page, all of it or nothing, and return its path.

    Raises:
        ImportError: vl-convert-python is not installed.
        OSError: The file cannot be written.
    """
    text = document.render(
        title=f"What policies would have done on {log.name}",
        command=command,
        notes=[WARNING, *notes(log, base)],
        sections=[
            '<section><figure id="figure-0" aria-label="Losses and rates"></figure></section>',
            *(_section(each, base) for each in found),
        ],
        reading=READING,
        specs=[figure(log, found, base=base)],
    )
    return document.write(path, text)


def notes(log: LossLog, base: float | None) -> list[str]:
    """What has to be known to read it."""
    told = []
    gaps = np.diff(log.steps)
    if len(gaps) and np.median(gaps) > 1:
        told.append(
            f"The log has a loss every {np.median(gaps):g} steps or so, and a policy meets those alone: its patience and its "
            "windows count lines of the log, not steps."
        )
    if base is None:
        told.append("The log has no rates: what is shown is the scale, how many base rates a policy would have used.")
    else:
        told.append(f"The base rate is taken to be {base:.3g}.")
    return told


def figure(log: LossLog, found: Sequence[Replayed], *, base: float | None) -> Spec:
    """The losses, and below them the log's own rate and those of the policies."""
    steps, losses = np.array(log.steps), np.array(log.losses)
    first, last = min(0, int(steps.min())), max(int(steps.max()), 1)
    unit = 1.0 if base is None else base
    lines = [(each.label, steps, unit * np.array(each.scales)) for each in found]
    names = [each.label for each in found]
    # The log is grey, the seventh of the theme's colours, so that places before it stay free where there are few policies.
    colours = [*names, *("\u200b" * place for place in range(1, _COLOURS - len(names) + 1))]
    if log.rates is not None and base is not None:
        colours.insert(_COLOURS, OWN)
        lines.insert(0, (OWN, steps, np.array(log.rates)))
    points = Points(steps, losses, losses, losses, np.full(len(steps), nan))
    x = plots.steps_axis(first, last)
    rates = plots.rates_plot(lines, x, colours, title="scale" if base is None else "rate")
    rates["layer"].append(_marks(found, unit))
    losses_plot = plots.losses_plot(points, plots.steps_axis(first, last, title=None))
    return {"vconcat": [{**plot, "width": WIDTH} for plot in (losses_plot, rates)], "spacing": 14}


def as_table(each: Replayed, base: float | None, most: int = 20) -> Table | str:
    """A policy's stretches for a terminal, the largest if there are many; a sentence if there are none."""
    return _table(each, base, most) if each.changes else f"{each.label}: {summary(each, base)}"


def as_json(log: LossLog, found: Sequence[Replayed], base: float | None) -> dict[str, Any]:
    """All changes and scales for JSON, with null for what is not finite."""
    policies = [
        {
            "policy": each.label,
            "changes": [
                {"step": c.step, "before": c.before, "scale": c.scale, "reason": c.reason, "loss": _finite(c.loss)}
                | ({"rate": c.rates[0]} if c.rates else {})
                for c in each.changes
            ],
            "scales": each.scales,
        }
        for each in found
    ]
    own = {"steps": log.steps, "losses": [_finite(loss) for loss in log.losses], "rates": log.rates}
    return {"log": log.name, "base": base, "notes": [WARNING, *notes(log, base)], **own, "policies": policies}


def _marks(found: Sequence[Replayed], unit: float) -> Spec:
    rows = [
        (each.label, stretch.first, unit * stretch.before, stretch.done, plots.words(stretch, unit))
        for each in found
        for stretch in plots.stretches(each.changes)
    ]
    turned = {"domain": ["raised", "lowered"], "range": ["triangle-up", "triangle-down"]}
    shape = {"field": "done", "type": "nominal", "legend": None, "scale": turned}
    return {
        "data": vega.table(["name", "step", "value", "done", "why"], rows, numbers=["step", "value"]),
        "mark": {"type": "point", "filled": True, "size": 46, "opacity": 1, "clip": True},
        "encoding": {
            "x": {"field": "step", "type": "quantitative"},
            "y": {"field": "value", "type": "quantitative"},
            "color": {"field": "name", "type": "nominal"},
            "shape": shape,
            "tooltip": [{"field": "name", "title": "policy"}, {"field": "why", "title": "change"}],
        },
    }


def _table(each: Replayed, base: float | None, most: int) -> Table:
    found = plots.stretches(each.changes)
    shown = sorted(sorted(found, key=lambda stretch: -stretch.size)[:most], key=lambda stretch: stretch.first)
    table = tables.plain(*_HEADS)
    table.title = each.label
    for stretch in shown:
        table.add_row(*_cells(stretch, base))
    for column in table.columns[:3]:
        column.justify = "right"
    left = len(found) - len(shown)
    table.caption = summary(each, base) + (f" {left:,} smaller ones are on the page." if left else "")
    return table


def summary(each: Replayed, base: float | None) -> str:
    """What a policy would have done, in a sentence."""
    raised = sum(change.scale > change.before for change in each.changes)
    lowered = len(each.changes) - raised
    last, unit = each.scales[-1], 1.0 if base is None else base
    end = f"{'scale' if base is None else 'rate'} {unit * last:.3g} at the end"
    return f"{raised:,} raises and {lowered:,} cuts; {end}." if each.changes else f"No decisions; {end}."


def _cells(stretch: Stretch, base: float | None) -> list[str]:
    unit = 1.0 if base is None else base
    steps = f"{stretch.first:,}" if stretch.last == stretch.first else f"{stretch.first:,} to {stretch.last:,}"
    done, colon, why = stretch.reason.partition(": ")
    times = f" {stretch.times} times" if stretch.times > 1 else ""
    return [steps, f"{unit * stretch.before:.3g}", f"{unit * stretch.after:.3g}", f"{done}{times}{colon}{why}"]


def _section(each: Replayed, base: float | None) -> str:
    lines = [_cells(stretch, base) for stretch in plots.stretches(each.changes)]
    head, *rows = (_row(cells, tag) for cells, tag in [(_HEADS, "th"), *((cells, "td") for cells in lines)])
    table = f"<table><thead>{head}</thead><tbody>\n{chr(10).join(rows)}\n</tbody></table>" if rows else ""
    return f"""<section>
<h2>{escape(each.label)}</h2>
<p class="quiet">{escape(summary(each, base))}</p>
<div style="overflow-x: auto">{table}</div>
</section>"""


def _row(cells: Sequence[str], tag: str) -> str:
    """A row of the table: words to the left, numbers to the right."""
    *numbers, why = map(escape, cells)
    return f'<tr>{"".join(f"<{tag}>{text}</{tag}>" for text in numbers)}<{tag} class="words">{why}</{tag}></tr>'


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
