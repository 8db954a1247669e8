"""What came of a judgement as Vega-Lite specifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.judge import worth
from surefoot.judge.blocks import POINTS
from surefoot.judge.entrants import Contestant, policy
from surefoot.pictures import GAP
from surefoot.policy import schedule
from surefoot.vega import Spec, table, ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from surefoot.judge.rows import RunRow
    from surefoot.judge.study import Findings

ACROSS = 3
"""Plots side by side."""
WIDTH, HEIGHT = 300, 230
DRAWN = tuple(
    Contestant(*names)
    for names in (
        ("wsd",),
        ("cosine",),
        ("constant",),
        ("greedy",),
        ("hypergradient",),
        ("constant", "bound"),
        ("wsd", "clipped"),
        ("cosine", "clipped"),
    )
)
CLASSICAL = ("wsd", "cosine", "linear", "step")
"""Schedules that are drawn beside what was learned."""
_STEEPEST = 30.0
"""Ratios beyond are drawn there."""


def sensitivity(outcomes: Sequence[Findings], labels: Sequence[str]) -> Spec:
    """What runs come to by the rate they start from, over the best tuned rival; one plot for each arena."""
    drawn = [found for found in outcomes if len(found.arena.starts) > 1 and found.rivals]
    return _beside([_starts(found, labels) for found in drawn])


def searches(outcomes: Sequence[Findings], labels: Sequence[str]) -> Spec:
    """One run over the best of a search, by the runs of the search; where a line is below 1, the one run is better."""
    return _beside([plot for label in labels if (plot := _search(outcomes, label))])


def shapes(outcomes: Sequence[Findings], labels: Sequence[str]) -> Spec:
    """Rates over the budget: the judged policy's, median and quartiles over runs, beside the classical schedules'."""
    return _beside([_shape(found, label) for label in labels for found in outcomes if found.cells or found.arena.watches])


def duels(outcomes: Sequence[Findings], labels: Sequence[str]) -> Spec:
    """The judged policy at the tuned rate over each rival, with intervals."""
    return _beside([_duel(found, label) for label in labels for found in outcomes if found.rivals])


def _starts(found: Findings, labels: Sequence[str]) -> Spec:
    best = worth.values(found.rivals[found.best()][1.0])
    contestants = {label: worth.ours(found, label) for label in labels} | {
        rival.name: found.rivals[rival] for rival in DRAWN if rival in found.rivals
    }
    rows = []
    for name, by_start in contestants.items():
        for start, each in by_start.items():
            ratio = float(np.exp(np.mean(np.log(worth.values(each) / best))))
            rows.append((name, start, min(ratio, _STEEPEST), ratio, worth.failed(each), len(each)))
    names = ["policy", "start", "height", "ratio", "failed", "runs"]
    heights = [row[2] for row in rows]
    y = _ratio_axis(min(heights), max(heights), "end / best tuned rival's")
    color = _hue([*labels, *(rival.name for rival in DRAWN)], [*contestants])
    encoding = {
        "x": _log("start", "starting rate / tuned rate", found.arena.starts),
        "y": {"field": "height", **y},
        "color": color,
    }
    wide = {"condition": {"test": {"field": "policy", "oneOf": list(labels)}, "value": 3.2}, "value": 1.6}
    tips = [_tip("policy"), _tip("start", "~g"), _tip("ratio", ".3f"), _tip("failed", "d"), _tip("runs", "d")]
    crossed = {"condition": {"test": "datum.failed > 0", "value": "cross"}, "value": "circle"}
    return {
        "data": table(names, rows, numbers=names[1:]),
        "encoding": encoding,
        "layer": [
            {"mark": {"type": "line", "strokeJoin": "round"}, "encoding": {"strokeWidth": wide}},
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"shape": crossed, "tooltip": tips},
            },
        ],
        **_size(found.arena.name),
    }


def _search(outcomes: Sequence[Findings], label: str) -> Spec | None:
    each = {found.arena.name: found_one for found in outcomes if (found_one := worth.search(found, label)) is not None}
    if not each:
        return None
    if len(each) > 1:
        each["all"] = worth.pooled(list(each.values()))
    rows = [
        (name, runs, ratio.mean, ratio.low, ratio.high)
        for name, one in each.items()
        for runs, ratio in zip(one.budgets, one.ratios, strict=True)
    ]
    names = ["arena", "runs", "ratio", "low", "high"]
    y = {
        "field": "ratio",
        **_ratio_axis(min(row[3] for row in rows), max(row[4] for row in rows), "one run / best of a search"),
    }
    x = {
        "field": "runs",
        "type": "quantitative",
        "title": "runs of the search",
        "scale": {"type": "log", "base": 2, "domain": [1, 36]},
        "axis": {"values": list(worth.BUDGETS), "grid": False},
    }
    tips = [_tip("arena"), _tip("runs", "d"), *(_tip(name, ".3f") for name in names[2:])]
    color = _hue(list(each), list(each), field="arena")
    lines = {"mark": {"type": "line", "point": True, "tooltip": True}, "encoding": {"tooltip": tips}}
    # Of many arenas the intervals would only hide each other.
    bands = [{"mark": {"type": "area", "opacity": 0.15}, "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}}}]
    return {
        "data": table(names, rows, numbers=names[1:]),
        "encoding": {"x": x, "y": y, "color": color},
        "layer": [*(bands if len(each) < 5 else []), lines, _one()],  # noqa: PLR2004
        **_size(label),
    }


def _shape(found: Findings, label: str) -> Spec:
    limits = worth.limits_of(found, label)
    unit, steps = found.units[limits], found.arena.steps
    progress = np.linspace(0.0, 1.0, POINTS)
    rows: list[tuple[Any, ...]] = []
    for start, each in worth.ours(found, label).items():
        paths = _paths(each) / unit
        if not len(paths):
            continue
        low, middle, high = np.quantile(paths, [0.25, 0.5, 0.75], axis=0)
        name = f"from x{start:g}"  # Whose is in the title.
        rows += zip([name] * POINTS, progress, _raised(middle), _raised(low), _raised(high), strict=True)
    ours = list(dict.fromkeys(row[0] for row in rows))
    for entry in CLASSICAL:
        rival = Contestant(entry, limits) if Contestant(entry, limits) in found.tuned else Contestant(entry)
        if rival not in found.tuned:
            continue  # Not everybody is a rival where a run is dear.
        scales = [float(state.scale) for state in schedule(policy(entry, steps), [1.0] * (steps - 1))]
        drawn = np.array(scales)[np.linspace(0, steps - 1, POINTS).round().astype(int)] * found.tuned[rival].rate / unit
        rows += zip([entry] * POINTS, progress, _raised(drawn), _raised(drawn), _raised(drawn), strict=True)
    names = ["policy", "progress", "rate", "low", "high"]
    heights = [value for row in rows for value in row[3:]]
    y = {"field": "rate", **_ratio_axis(min(heights), max(heights), "rate / tuned rate")}
    x = {"field": "progress", "type": "quantitative", "title": "part of the budget", "axis": {"format": ".0%", "grid": False}}
    dash = {"condition": {"test": {"field": "policy", "oneOf": list(CLASSICAL)}, "value": [5, 3]}, "value": [1, 0]}
    mark = {"type": "line", "strokeJoin": "round", "strokeWidth": 2}
    band = {"mark": {"type": "area", "opacity": 0.15}, "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}}}
    return {
        "data": table(names, rows, numbers=names[1:]),
        "encoding": {"x": x, "y": y, "color": _hue([*ours, *CLASSICAL], [*ours, *CLASSICAL], columns=3)},
        "layer": [band, {"mark": mark, "encoding": {"strokeDash": dash}}],
        **_size(f"{label} on {found.arena.name}"),
    }


def _duel(found: Findings, label: str) -> Spec:
    ours = worth.ours(found, label)[1.0]
    against = {rival.name: worth.ratio(ours, rows) for rival, rows in found.equal.items()}
    if found.own:
        against |= {f"{rival.name}, tuned here": worth.ratio(ours, rows[1.0]) for rival, rows in found.rivals.items()}
    listed = sorted(against, key=lambda name: against[name].mean)
    rows = [
        (name, against[name].mean, against[name].low, against[name].high, against[name].median, against[name].verdict)
        for name in listed
    ]
    names = ["rival", "ratio", "low", "high", "median", "verdict"]
    x = {"field": "ratio", **_ratio_axis(min(row[2] for row in rows), max(row[3] for row in rows), f"{label} / rival")}
    y = {"field": "rival", "type": "nominal", "title": None, "sort": listed, "axis": {"labelLimit": 190}}
    tips = [_tip("rival"), *(_tip(name, ".3f") for name in names[1:5]), _tip("verdict")]
    medians = {"mark": {"type": "tick", "thickness": 2, "opacity": 0.7}, "encoding": {"x": {**x, "field": "median"}}}
    return {
        "data": table(names, rows, numbers=names[1:5]),
        "encoding": {"y": y, "x": x, "tooltip": tips},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1}},
            medians,
            _one("x"),
        ],
        "width": WIDTH,
        "height": {"step": 17},
        "title": {"text": found.arena.name, "fontSize": 13},
    }


def _paths(rows: Iterable[RunRow]) -> Any:
    """Rates of the runs that got to the end, one row for each."""
    whole = [row.rates for row in rows if len(row.rates) == POINTS]
    return np.array(whole).reshape(-1, POINTS)


def _raised(values: Any) -> list[float]:
    """No lower than a logarithmic axis can show."""
    return [max(float(value), 1e-4) for value in values]


def _beside(plots: Sequence[Spec]) -> Spec:
    lines = [list(plots[first : first + ACROSS]) for first in range(0, len(plots), ACROSS)]
    return {
        "vconcat": [{"hconcat": line, "spacing": 2 * GAP, "resolve": {"scale": {"color": "independent"}}} for line in lines],
        "spacing": 2 * GAP,
        "resolve": {"scale": {"color": "independent"}},
    }


def _size(title: str) -> Spec:
    return {"width": WIDTH, "height": HEIGHT, "title": {"text": title, "fontSize": 13}}


def _one(channel: str = "y") -> Spec:
    """A dashed rule at 1."""
    other = {"x": None} if channel == "y" else {"y": None}
    encoding: Mapping[str, Any] = {channel: {"field": "one", "type": "quantitative"}, "color": None, "tooltip": None, **other}
    return {"data": {"values": [{"one": 1}]}, "mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": encoding}


def _ratio_axis(low: float, high: float, title: str) -> Spec:
    domain = min(low, 0.95) / 1.03, max(high, 1.05) * 1.03
    shown = {"values": ticks(*domain, most=8), "format": ".3~g"}
    return {
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "domain": list(domain), "nice": False},
        "axis": shown,
    }


def _log(field: str, title: str, values: Sequence[float]) -> Spec:
    scale = {"type": "log", "domain": [min(values), max(values)]}
    axis = {"values": list(values), "format": "~g", "grid": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _hue(domain: Sequence[str], shown: Sequence[str], *, field: str = "policy", columns: int = 3) -> Spec:
    legend = {
        "orient": "top",
        "title": None,
        "values": list(shown),
        "symbolType": "stroke",
        "symbolOpacity": 1,
        "columns": columns,
        "labelFontSize": 11,
    }
    return {"field": field, "type": "nominal", "scale": {"domain": list(dict.fromkeys(domain))}, "legend": legend}


def _tip(field: str, form: str | None = None) -> Spec:
    how = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
    return {"field": field, **how}
