"""A trace as Vega-Lite specifications."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.curves import thin
from surefoot.features import Features
from surefoot.vega import Spec, table, ticks

if TYPE_CHECKING:
    from surefoot.insight.tracing import Moment, Trace

WIDTH, HEIGHT, LOW = 1010, 220, 90
SMALL, SMALL_HEIGHT, ACROSS = 290, 110, 3
POINTS = 600
DONE = ["raised", "lowered", "alarm"]
_LARGEST = 1e6
_ALL = Features(tier="gradient", bound=True)
_ENDS = dict(zip(_ALL.names, zip(_ALL.low, _ALL.high, strict=True), strict=True))


def run(trace: Trace) -> Spec:
    """Loss and rate over the steps, with marks where the policy decided and rules where there was an alarm."""
    x = _step(trace)
    loss = _curve(trace, x, "loss", "loss of the step")
    rate = _curve(trace, x, "rate", "rate in the log" if trace.advised else "rate")
    rate["layer"].append(_marks(trace, x))
    rows = [(row.step, row.guard) for row in trace.rows if "alarm" in row.guard]
    alarms = {
        "data": table(["step", "guard"], rows, numbers=["step"]),
        "mark": {"type": "rule", "strokeDash": [3, 3], "tooltip": {"content": "data"}},
        "encoding": {"x": x, "color": {"datum": "alarm", **_done()}},
    }
    for plot in (loss, rate):
        plot["layer"].append(alarms)
    return {"vconcat": [loss, rate], "spacing": 18}


def decisions(trace: Trace) -> Spec:
    """The actions, and below them what each feature added to them."""
    x = _step(trace)
    made = trace.decisions
    rows = [(row.step, row.action, "raised" if (row.action or 0.0) >= 0.0 else "lowered", row.why) for row in made]
    actions = {
        "data": table(["step", "action", "done", "why"], rows, numbers=["step", "action"]),
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"y2": {"datum": 0}}},
            {"mark": {"type": "point", "filled": True, "size": 30, "tooltip": {"content": "data"}}},
        ],
        "encoding": {
            "x": x,
            "y": {"field": "action", "type": "quantitative", "title": "action", "scale": {"domain": [-1.05, 1.05]}},
            "color": {"field": "done", "type": "nominal", **_done()},
        },
        "width": WIDTH,
        "height": LOW,
    }
    return {"vconcat": [actions, _credits(trace, x)], "spacing": 18}


def features(trace: Trace) -> Spec:
    """Every feature over the steps, one small plot each."""
    names = list(trace.rows[0].features)
    plots = [_small(trace, name) for name in names]
    lines = [{"hconcat": plots[first : first + ACROSS], "spacing": 40} for first in range(0, len(plots), ACROSS)]
    return {"vconcat": lines, "spacing": 22}


def _curve(trace: Trace, x: Spec, name: str, title: str) -> Spec:
    """A value of every step, on a logarithmic axis if it can have one."""
    rows = [(row.step, value) for row in trace.rows if isfinite(value := getattr(row, name)) and abs(value) < _LARGEST**6]
    values = np.array([value for _, value in rows] or [1.0])
    is_log = bool((values > 0.0).all()) or (name == "rate" and bool((values > 0.0).any()))
    if is_log:
        rows, values = [row for row in rows if row[1] > 0.0], values[values > 0.0]
        # Where a run goes up in flames is no reason not to see the rest.
        values = values[values <= _LARGEST * np.median(values)]
        low, high = float(values.min()) / 1.15, float(values.max()) * 1.15
        y = {"scale": {"type": "log", "domain": [low, high], "nice": False}}
        y["axis"] = {"format": ".3~g", "values": ticks(low, high, most=HEIGHT // 30)}
    else:
        y = {"scale": {"zero": False}, "axis": {"format": ".3~g"}}
    kept: Any = thin(np.array([value for _, value in rows]), POINTS) if rows else []
    line = {
        "data": table(["step", name], [rows[place] for place in kept], numbers=["step", name]),
        "mark": {"type": "line", "strokeWidth": 1.6, "strokeJoin": "round", "clip": True},
        "encoding": {"x": x, "y": {"field": name, "type": "quantitative", "title": title, **y}},
    }
    return {"layer": [line], "width": WIDTH, "height": HEIGHT if name == "loss" else HEIGHT - 40}


def _marks(trace: Trace, x: Spec) -> Spec:
    """A triangle at every decision, up or down, with the decision in words."""
    rows = [(row.step, row.rate, _what(row), row.why, row.guard) for row in trace.decisions if row.rate > 0.0]
    shapes = {"scale": {"domain": DONE, "range": ["triangle-up", "triangle-down", "stroke"]}, "legend": _done()["legend"]}
    return {
        "data": table(["step", "rate", "done", "why", "guard"], rows, numbers=["step", "rate"]),
        "mark": {"type": "point", "filled": True, "size": 55, "clip": True, "tooltip": {"content": "data"}},
        "encoding": {
            "x": x,
            "y": {"field": "rate", "type": "quantitative"},
            "color": {"field": "done", "type": "nominal", **_done()},
            "shape": {"field": "done", "type": "nominal", **shapes},
        },
    }


def _credits(trace: Trace, x: Spec) -> Spec:
    """A map of what every feature added to every action: the colour says which way, its strength how much."""
    made = trace.decisions
    ends = [row.step for row in made[1:]] + [len(trace.rows)]
    rows = [
        (row.step, end, name, "raised" if value > 0.0 else "lowered", abs(value), row.features[name])
        for row, end in zip(made, ends, strict=True)
        for name, value in row.moved.items()
    ]
    names = list(trace.rows[0].features)
    numbers = ["step", "until", "added", "value"]
    return {
        "data": table(["step", "until", "feature", "done", "added", "value"], rows, numbers=numbers),
        "mark": {"type": "rect", "tooltip": {"content": "data"}},
        "encoding": {
            "x": x,
            "x2": {"field": "until"},
            "y": {"field": "feature", "type": "nominal", "title": None, "sort": names, "axis": {"grid": False}},
            "color": {"field": "done", "type": "nominal", **_done()},
            "opacity": {"field": "added", "type": "quantitative", "scale": {"domain": [0, 1], "clamp": True}, "legend": None},
        },
        "width": WIDTH,
        "height": 18 * len(names),
    }


def _small(trace: Trace, name: str) -> Spec:
    """One feature, with a dot where it was looked at."""
    values = np.array([row.features[name] for row in trace.rows])
    rows = [(trace.rows[place].step, float(values[place])) for place in thin(values, POINTS // ACROSS)]
    dots = [(row.step, row.features[name]) for row in trace.decisions]
    low, high = float(values.min()), float(values.max())
    room = max(0.05 * (high - low), 0.1)
    domain = [max(low - room, _ENDS[name][0] - 0.1), min(high + room, _ENDS[name][1] + 0.1)]
    y = {"field": "value", "type": "quantitative", "title": None, "scale": {"domain": domain, "nice": False}}
    y["axis"] = {"tickCount": 4, "format": ".2~g"}
    data = {"x": _step(trace, title=None), "y": y}
    return {
        "layer": [
            {"data": table(["step", "value"], rows, numbers=["step", "value"]), "mark": {"type": "line", "strokeWidth": 1.4}},
            {
                "data": table(["step", "value"], dots, numbers=["step", "value"]),
                "mark": {"type": "point", "filled": True, "size": 14, "tooltip": {"content": "data"}},
            },
        ],
        "encoding": data,
        "width": SMALL,
        "height": SMALL_HEIGHT,
        "title": {"text": name, "fontSize": 12},
    }


def _what(row: Moment) -> str:
    return "raised" if (row.factor or 1.0) >= 1.0 else "lowered"


def _done() -> Spec:
    legend = {"orient": "top", "title": None, "symbolType": "circle"}
    return {"scale": {"domain": DONE}, "legend": legend}


def _step(trace: Trace, title: str | None = "optimizer step") -> dict[str, Any]:
    axis = {"format": ",d", "grid": False, "tickCount": 6 if title else 4}
    scale = {"domain": [0, len(trace.rows)], "nice": False}
    return {"field": "step", "type": "quantitative", "title": title, "scale": scale, "axis": axis}
