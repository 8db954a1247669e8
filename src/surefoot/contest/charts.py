"""What came of a comparison as Vega-Lite specifications."""

from __future__ import annotations

from math import exp, isfinite, log, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.contest import progress
from surefoot.contest.outcome import BEST, REGIMES
from surefoot.contest.profiles import LIMIT, ratios
from surefoot.pictures import GAP
from surefoot.runs import evaluation_steps
from surefoot.vega import Spec, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from surefoot.contest.outcome import Outcome
    from surefoot.contest.rows import CellName

DRAWN = (
    "greedy",
    "greedy-decay",
    "networks-gradient",
    "cosine",
    "wsd",
    "constant",
    "schedule-free-warmup",
    "line-search",
    "hypergradient-group-multiplicative",
    "hypergradient-parameter-multiplicative",
)
"""Those that get a colour, in its order; the others are grey."""
SCHEDULES = ("greedy", "greedy-decay", "networks-gradient", "cosine", "wsd", "step", "constant")
HISTORIES = (
    "greedy",
    "constant",
    "hypergradient-parameter-multiplicative",
    "hypergradient-group-multiplicative",
    "line-search",
    "cosine",
)
"""Of the founding article's two pictures, with cosine."""
MEASURES = {"A": REGIMES["A"].name, "B": REGIMES["B"].name, "steps": "Steps to the target, tuned"}
"""What there is a profile of."""
ACROSS = 3
WIDTH, HEIGHT = 290, 200
_LEAST, _MOST = 0.002, 1.0
"""How far behind the best a cell is at least and at most drawn."""


def profiles(found: Outcome) -> Spec:
    """On which share of its cells a rival is within a ratio of the best one; one plot for each measure."""
    return _beside([_profile(_within(found, key), title) for key, title in MEASURES.items()])


def scores(found: Outcome, measure: str) -> dict[str, tuple[int, float]]:
    """By rival, the number of its cells and the area under its profile until a ratio of 4, of 1."""
    return {
        name: (len(own), float(np.mean([max(0.0, LIMIT - ratio) / (LIMIT - 1.0) for ratio in own.values()])))
        for name, own in _within(found, measure).items()
    }


def heat(found: Outcome) -> Spec:
    """How far every rival is behind the best of every cell, in two regimes that a switch chooses from."""
    rows = [
        (regime, f"{cell.task}, {cell.optimizer}", name, min(max(ratio - 1.0, _LEAST), _MOST), min(ratio, 1e9))
        for regime in ("A", "B")
        for name, own in _within(found, regime).items()
        for cell, ratio in own.items()
    ]
    names = [rival.name for rival in found.study.rivals]
    cells = list(dict.fromkeys(row[1] for row in rows))
    colour = {
        "field": "shown",
        "type": "quantitative",
        "title": "behind the best by",
        "scale": {"type": "log", "scheme": "viridis", "reverse": True, "domain": [_LEAST, _MOST], "clamp": True},
        "legend": {"orient": "top", "values": [0.002, 0.01, 0.05, 0.2, 1.0], "format": "~%", "gradientLength": 220},
    }
    choice = {"input": "radio", "options": ["A", "B"], "labels": ["A, tuned", "B, at default rates"], "name": "Regime: "}
    return {
        "params": [{"name": "regime", "value": "A", "bind": choice}],
        "vconcat": [
            {
                "data": table(["regime", "cell", "rival", "shown", "ratio"], rows, numbers=["shown", "ratio"]),
                "transform": [{"filter": "datum.regime == regime"}],
                "mark": {"type": "rect"},
                "encoding": {
                    "x": {
                        "field": "rival",
                        "type": "nominal",
                        "sort": names,
                        "title": None,
                        "axis": {"labelAngle": -60, "labelLimit": 300},
                    },
                    "y": {"field": "cell", "type": "nominal", "sort": cells, "title": None, "axis": {"labelLimit": 260}},
                    "color": colour,
                    "tooltip": [_tip("cell"), _tip("rival"), _tip("ratio", ".3~f")],
                },
                "width": {"step": 21},
                "height": {"step": 13},
            }
        ],
    }


def schedules(found: Outcome) -> Spec:
    """Rates of tuned schedules over the budget, medians over seeds; one plot for a task of each field."""
    return _beside([_ways(found, cell, SCHEDULES, "rates") for cell in _shown(found)])


def histories(found: Outcome) -> Spec:
    """Held-out losses on the way, likewise, of the rivals that the founding article draws."""
    return _beside([_ways(found, cell, HISTORIES, "curve") for cell in _shown(found)])


def lost(found: Outcome, candidate: str, opponent: str, tasks: Iterable[str]) -> Spec:
    """Held-out losses of a candidate and its opponent where it lost."""
    cells = [cell for cell in found.entries if cell.task in set(tasks)]
    pairs = [(cell, found.best[cell] if opponent == BEST else opponent) for cell in cells]
    return _beside([_ways(found, cell, (candidate, other), "curve", f"\nbehind {other}") for cell, other in pairs])


def _within(found: Outcome, measure: str) -> dict[str, dict[CellName, float]]:
    """Every rival's number over the best one's, in each of its cells in which everybody is done.

    The number is the geometric mean of losses over seeds, and of steps to the target the median.
    """
    if measure == "steps":
        numbers = {rival.name: progress.steps_to_target(found, rival.name) for rival in found.study.rivals}
    else:
        about = REGIMES[measure]
        numbers = {rival.name: found.losses(rival.name, about.ours, about.at) for rival in found.study.rivals}
    within: dict[str, dict[CellName, float]] = {name: {} for name in numbers}
    for cell in found.entries:
        names = list(found.entries[cell])
        if not all(cell in numbers[name] for name in names):
            continue
        middles = [float(np.median(numbers[name][cell])) if measure == "steps" else mean(numbers[name][cell]) for name in names]
        for name, ratio in zip(names, ratios([middles])[0].tolist(), strict=True):
            within[name][cell] = ratio
    return {name: own for name, own in within.items() if own}


def _profile(within: Mapping[str, Mapping[CellName, float]], title: str) -> Spec | None:
    if not within:
        return None
    at = [1.0, *(1.0 + np.geomspace(1e-3, LIMIT - 1.0, 60))]
    shares = {name: np.array(list(own.values())) for name, own in within.items()}
    rows = [(name, ratio - 1.0 + 1e-3, float((own <= ratio).mean())) for name, own in shares.items() for ratio in at]
    x = {
        "type": "quantitative",
        "title": "at most so far above the best",
        "scale": {"type": "log", "domain": [1e-3, LIMIT - 1.0], "nice": False},
        "axis": {"values": [0.001, 0.01, 0.1, 1.0, 3.0], "format": "~%", "grid": False},
    }
    y = {"type": "quantitative", "title": "share of its cells", "scale": {"domain": [0, 1]}}
    return _lines(rows, {"above": x, "share": y}, title, ".3~f")


def _ways(found: Outcome, cell: CellName, rivals: Sequence[str], field: str, more: str = "") -> Spec | None:
    """What rivals did on the way, medians over seeds; None before any of it is there."""
    rows = []
    for name in rivals:
        every = [getattr(row, field) for row in found.rows(cell, name, "tuned")]
        if not every or not all(every):
            continue
        steps = evaluation_steps(int(found.entries[cell][name].problem.steps), len(every[0]))
        median = np.median(np.where(np.isfinite(every), every, np.inf), axis=0)
        shown = [(step, value) for step, value in zip(steps, median.tolist(), strict=True) if isfinite(value)]
        least = max((value for _, value in shown), default=1.0) * 1e-4
        rows += [(name, step, max(value, least)) for step, value in shown]
    title = "learning rate" if field == "rates" else "held-out loss"
    x = {"type": "quantitative", "title": "optimizer step", "axis": {"grid": False, "tickCount": 5}}
    y: Spec = {"type": "quantitative", "title": title, "scale": {"type": "log", "nice": False}}
    heights = [value for _, _, value in rows] or [1.0]
    y["axis"] = {"format": ".2~g", "tickCount": 6 if log10(max(heights) / min(heights)) > 1.0 else 4}
    if not rows:
        return None
    return _lines(rows, {"step": x, "value": y}, f"{cell.task}, {cell.optimizer}{more}", ".4~g")


def _lines(rows: Sequence[Sequence[Any]], axes: Mapping[str, Spec], title: str, form: str) -> Spec:
    """One plot of lines, by the fields of both axes: colours for the rivals that have one, grey for the others."""
    names = ["rival", *axes]
    x, y = (axis | {"field": name} for name, axis in axes.items())
    there = {row[0] for row in rows}
    known = [name for name in DRAWN if name in there]
    others = sorted(there - set(DRAWN))
    colour = {
        "field": "rival",
        "type": "nominal",
        "scale": {"domain": list(DRAWN), "scheme": "tableau10"},
        "legend": {"orient": "top", "title": None, "symbolType": "stroke", "labelLimit": 300, "values": known},
    }
    line = {"type": "line", "strokeJoin": "round", "clip": True}
    tips = [_tip("rival"), *(_tip(name, form) for name in names[1:])]
    wide = {"condition": {"test": "indexof(datum.rival, 'greedy') == 0", "value": 3.0}, "value": 1.7}
    layers = [
        {
            "mark": {**line, "color": "#9aa0a6", "opacity": 0.55, "strokeWidth": 1.1},
            "transform": [{"filter": {"field": "rival", "oneOf": others}}],
            "encoding": {"detail": {"field": "rival"}},
        },
        {
            "mark": line,
            "transform": [{"filter": {"field": "rival", "oneOf": known}}],
            "encoding": {"color": colour, "strokeWidth": wide},
        },
    ]
    return {
        "data": table(names, [list(row) for row in rows], numbers=names[1:]),
        "encoding": {"x": x, "y": y, "tooltip": tips},
        "layer": [layer for layer, some in zip(layers, (others, known), strict=True) if some],
        "title": {"text": title.partition("\n")[0], "subtitle": title.partition("\n")[2], "anchor": "start"},
        "width": WIDTH,
        "height": HEIGHT,
    }


def _shown(found: Outcome) -> list[CellName]:
    """The first cell of SGD of each field, that of AdamW for the first field as well."""
    fields = {task.name: task.field for task in found.study.tasks}
    chosen: dict[tuple[str, str], CellName] = {}
    for cell in found.entries:
        chosen.setdefault((fields[cell.task], cell.optimizer), cell)
    return list(chosen.values())


def _beside(plots: Iterable[Spec | None]) -> Spec:
    """Plots, as many in a row as fit, with one legend of those that are drawn anywhere."""
    drawn = [plot for plot in plots if plot is not None]
    legends = [
        layer["encoding"]["color"]["legend"] for plot in drawn for layer in plot["layer"] if "color" in layer["encoding"]
    ]
    named = {name for legend in legends for name in legend["values"]}
    for legend in legends:
        legend["values"] = [name for name in DRAWN if name in named]
    return {"spacing": GAP, "concat": drawn, "columns": ACROSS, "config": {"legend": {"columns": ACROSS}}}


def mean(losses: Any) -> float:
    """The geometric mean; infinite if a run diverged."""
    return exp(float(np.mean([log(max(loss, 1e-12)) for loss in losses]))) if np.isfinite(losses).all() else float("inf")


def _tip(field: str, form: str | None = None) -> Spec:
    return {"field": field, "type": "quantitative", "format": form} if form else {"field": field, "type": "nominal"}
