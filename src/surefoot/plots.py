"""Pictures of one training: its loss, its rate, and why the rate changed."""

from __future__ import annotations

from math import ceil, log
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.drawing import Drawing
from surefoot.vega import LIGHT, Spec, table, ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from surefoot.changes import Change
    from surefoot.history import History, Points

WIDTH, HEIGHT, LOW_HEIGHT, LINE = 760, 220, 170, 19
NUMBERED = 12
"""Stretches of changes that are told in words below a picture; more could not be read."""
_POINTS = 800
_MANY_TIMES = 4.0  # From there on an axis is logarithmic.
_SMALL = 1 / 40  # Of the largest stretch.
_TICK_ROOM = 30
_LARGEST = 1e3  # Of a loss's axis, as a multiple of the median: what exploded would press all the rest flat.


READING = {
    "Loss": "Where steps are many, the line is the mean of neighbours, and the band goes from the lowest to the highest.",
    "Marks": "Where a triangle stands, the rate began to be raised or lowered, for the reason with its number. Ticks are all "
    "such beginnings; point at one to read it.",
}


class Stretch(NamedTuple):
    """Changes in a row for one reason.

    Attributes:
        first, last: The steps of the first and of the last of them.
        times: How many they are.
        before, after: The scale before the first and after the last.
        reason: Why, in a few words.
    """

    first: int
    last: int
    times: int
    before: float
    after: float
    reason: str

    @property
    def done(self) -> str:
        """Which happened to the scale, `raised` or `lowered`."""
        return "lowered" if self.after < self.before else "raised"

    @property
    def size(self) -> float:
        """How much it was, on a logarithmic scale, and infinite to and from a scale of 0."""
        return abs(log(self.after / self.before)) if min(self.after, self.before) > 0.0 else float("inf")


def stretches(changes: Iterable[Change]) -> list[Stretch]:
    """Changes by stretches: what was said once is not said again.

    >>> from surefoot.changes import Change
    >>> made = [Change(11, 1.0, 2.0, "raised: why", 0.7), Change(22, 2.0, 4.0, "raised: why", 0.6)]
    >>> stretches(made)
    [Stretch(first=11, last=22, times=2, before=1.0, after=4.0, reason='raised: why')]
    """
    found: list[Stretch] = []
    for change in changes:
        if found and found[-1].reason == change.reason:
            found[-1] = found[-1]._replace(last=change.step, times=found[-1].times + 1, after=change.scale)
        else:
            found.append(Stretch(change.step, change.step, 1, change.before, change.scale, change.reason))
    return found


def told(stretches: Sequence[Stretch], most: int = NUMBERED) -> list[Stretch]:
    """The largest of them, at most so many, in their order; none that is a trifle beside the largest."""
    largest = sorted(stretches, key=lambda stretch: -stretch.size)[:most]
    return sorted(
        (stretch for stretch in largest if stretch.size >= _SMALL * largest[0].size), key=lambda stretch: stretch.first
    )


def words(stretch: Stretch, base: float = 1.0) -> str:
    """A stretch in a line.

    >>> words(Stretch(120, 340, 3, 1.0, 0.5, "lowered: 11 not better in a row"), base=0.1)
    'steps 120 to 340: lowered 3 times from 0.1 to 0.05: 11 not better in a row'
    """
    done, colon, why = stretch.reason.partition(": ")
    steps = f"steps {stretch.first:,} to {stretch.last:,}" if stretch.last > stretch.first else f"step {stretch.first:,}"
    times = f" {stretch.times} times" if stretch.times > 1 else ""
    return f"{steps}: {done}{times} from {base * stretch.before:.3g} to {base * stretch.after:.3g}{colon}{why}"


def of_schedule(history: History, base: float | None = None) -> Drawing:
    """What a scheduler did: the loss and the rate over the steps, and the reasons of its changes.

    Args:
        history: What it met and did.
        base: The base rate of what is drawn; None to draw the scale.

    Raises:
        ValueError: There is nothing to draw yet.
    """
    points = history.points()
    if not len(points.step):
        raise ValueError("there is nothing to draw yet: plot() shows the steps that were made, so call it after some")
    found = stretches(history.changes)
    name, unit = ("scale", 1.0) if base is None else ("rate", base)
    first, last = int(points.step[0]) - 1, int(points.step[-1])
    line = (name, points.step, points.scale * unit)
    # The theme's first three colours, so that a page can change them by night.
    rate = rates_plot([line], steps_axis(first, last), ["lowered", name, "raised"], title=name)
    rate["layer"] += _marks(found, unit)
    parts = [losses_plot(points, steps_axis(first, last, title=None)), rate, *_list(told(found), unit)]
    return Drawing(
        f"Loss and {name} until step {last:,}",
        {"vconcat": parts, "spacing": 14},
        READING,
        "scheduler.plot()",
    )


def losses_plot(points: Points, x: Spec, *, title: str = "loss") -> Spec:
    """The mean loss as a line, and the range from the lowest to the highest as a band."""
    known = np.isfinite(points.loss)
    columns = [np.asarray(column)[known] for column in (points.step, points.low, points.loss, points.high)]
    rows = _merged(np.stack(columns, axis=1)) if known.any() else np.empty((0, 4))
    y = {"type": "quantitative", "title": title, **axis(rows[:, 1:].ravel(), HEIGHT)}
    data = table(["step", "low", "loss", "high"], rows.tolist(), numbers=["step", "low", "loss", "high"])
    band = {"mark": {"type": "area", "clip": True, "opacity": 0.22, "color": LIGHT[6]}, "encoding": {"y2": {"field": "high"}}}
    line = {"mark": {"type": "line", "clip": True, "strokeWidth": 1.6, "color": LIGHT[6], "strokeJoin": "round"}}
    layers = [
        {**band, "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}}},
        {**line, "encoding": {"x": x, "y": {"field": "loss", **y}}},
    ]
    return {"data": data, "layer": layers, "width": WIDTH, "height": HEIGHT}


def rates_plot(lines: Sequence[tuple[str, Any, Any]], x: Spec, colours: Sequence[str], *, title: str) -> Spec:
    """Rates as steps, a line for each with its name, and a legend if there is more than one.

    Args:
        lines: Names, steps and the rates from then on.
        x: The axis of the steps.
        colours: Names in the order of the theme's colours, those of the lines among them.
        title: What is drawn.
    """
    rows = [(name, *row) for name, steps, rates in lines for row in _turns(steps, rates)]
    values = np.array([row[2] for row in rows])
    y = {"field": "value", "type": "quantitative", "title": title, **axis(values, LOW_HEIGHT, below=0.12, above=0.16)}
    names = [name for name, _, _ in lines]
    legend: Spec = {"orient": "top", "title": None, "symbolType": "stroke", "values": names, "columns": 3}
    shown = legend if len(names) > 1 else None
    hue = {"field": "name", "type": "nominal", "scale": {"domain": list(colours)}, "legend": shown}
    mark = {"type": "line", "interpolate": "step-after", "strokeWidth": 1.8, "clip": True, "strokeJoin": "round"}
    data = table(["name", "step", "value"], rows, numbers=["step", "value"])
    line = {"data": data, "mark": mark, "encoding": {"x": x, "y": y, "color": hue}}
    return {"layer": [line], "width": WIDTH, "height": LOW_HEIGHT}


def steps_axis(first: int, last: int, *, title: str | None = "optimizer step") -> Spec:
    """The steps from the first to the last, as the field `step`."""
    shown = {"format": ",d", "grid": False, "tickCount": 6}
    return {
        "field": "step",
        "type": "quantitative",
        "title": title,
        "scale": {"domain": [first, last], "nice": False},
        "axis": shown,
    }


def axis(values: Any, height: int, *, below: float = 0.06, above: float = 0.06) -> Spec:
    """Scale and axis for these values: logarithmic where all are above 0 and one is several times another.

    Args:
        values: What is drawn.
        height: Of the plot, in pixels.
        below: Room at the lower end, as a fraction of what is between both.
        above: Room at the upper end.
    """
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0.0:
        values = values[values <= _LARGEST * np.median(values)]
        if values.max() >= _MANY_TIMES * values.min():
            low, high = _wider(log(values.min()), log(values.max()), below, above)
            domain = [float(np.exp(low)), float(np.exp(high))]
            shown = {"format": ".3~g", "values": ticks(domain[0], domain[1], most=height // _TICK_ROOM)}
            return {"scale": {"type": "log", "domain": domain, "nice": False}, "axis": shown}
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    domain = [float(end) for end in _wider(low, high, below, above)]
    return {"scale": {"domain": domain, "nice": False, "zero": False}, "axis": {"format": ".3~g", "tickCount": 5}}


def _wider(low: float, high: float, below: float, above: float) -> tuple[float, float]:
    between = high - low or abs(high) or 1.0
    return low - below * between, high + above * between


def _merged(rows: Any) -> Any:
    """Rows of step, lowest, mean and highest, neighbours merged until there are few enough to be told apart."""
    width = ceil(len(rows) / _POINTS)
    parts = np.array_split(rows, ceil(len(rows) / width)) if width > 1 else []
    return np.array([[p[-1, 0], p[:, 1].min(), p[:, 2].mean(), p[:, 3].max()] for p in parts]) if parts else rows


def _turns(steps: Any, rates: Any) -> list[tuple[float, float]]:
    """Where a line of steps turns: the points whose value differs from the one before, and both ends."""
    steps, rates = np.asarray(steps, np.float64), np.asarray(rates, np.float64)
    known = np.isfinite(rates)
    steps, rates = steps[known], rates[known]
    if not len(steps):
        return []
    turning = np.concatenate([[True], rates[1:] != rates[:-1]])
    turning[-1] = True
    places = np.flatnonzero(turning)
    places = places[np.unique(np.linspace(0, len(places) - 1, min(len(places), 2 * _POINTS)).astype(int))]
    return list(zip(steps[places].tolist(), rates[places].tolist(), strict=True))


def _marks(found: Sequence[Stretch], base: float) -> list[Spec]:
    """Ticks at the bottom for all stretches, and numbered triangles on the line for those that are told."""
    columns, numbers = ["number", "step", "value", "done", "why"], ["step", "value"]
    numbered = {stretch: str(number) for number, stretch in enumerate(told(found), 1)}
    rows = [
        (numbered.get(stretch, ""), stretch.first, base * stretch.before, stretch.done, words(stretch, base))
        for stretch in found
    ]
    x, y = {"field": "step", "type": "quantitative"}, {"field": "value", "type": "quantitative"}
    hue: Spec = {"field": "done", "type": "nominal"}
    shape = {**hue, "legend": None, "scale": {"domain": ["raised", "lowered"], "range": ["triangle-up", "triangle-down"]}}
    shared = {"x": x, "color": hue, "tooltip": {"field": "why"}}
    at_line = {**shared, "y": y}
    number = {"x": x, "y": y, "text": {"field": "number"}, "tooltip": {"field": "why"}}
    data, few = table(columns, rows, numbers=numbers), table(columns, [row for row in rows if row[0]], numbers=numbers)
    return [
        {"data": data, "mark": {"type": "tick", "thickness": 1.5, "size": 8, "y": LOW_HEIGHT - 5}, "encoding": shared},
        {
            "data": few,
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {**at_line, "shape": shape},
        },
        {"data": few, "mark": {"type": "text", "dy": -12, "fontWeight": 600}, "encoding": number},
    ]


def _list(numbered: Sequence[Stretch], base: float) -> list[Spec]:
    """The reasons by their numbers, as text below the picture; nothing if there is none."""
    if not numbered:
        return []
    rows = [(place, str(place + 1), words(stretch, base), stretch.done) for place, stretch in enumerate(numbered)]
    y = {"field": "place", "type": "quantitative", "axis": None, "scale": {"domain": [-0.5, len(rows) - 0.5], "reverse": True}}
    text = {"type": "text", "align": "left", "baseline": "middle", "fontSize": 11.5}
    return [
        {
            "data": table(["place", "number", "why", "done"], rows, numbers=["place"]),
            "encoding": {"y": y},
            "layer": [
                {"mark": {**text, "x": 14, "align": "right", "fontWeight": 600}, "encoding": {"text": {"field": "number"}}},
                {"mark": {**text, "x": 24, "limit": WIDTH - 24}, "encoding": {"text": {"field": "why"}}},
            ],
            "width": WIDTH,
            "height": LINE * len(rows),
        }
    ]
