"""The picture of a range test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.drawing import Drawing
from surefoot.plots import WIDTH, axis
from surefoot.vega import LIGHT, Spec, table

if TYPE_CHECKING:
    from surefoot.rate_finder import RateFound

HEIGHT = 280
READING = {
    "Dots": "The loss of the batch before the step at each rate.",
    "Line": "What the mean loss was there: that before the test, and the mean difference of the batches around.",
}
_FAR = 3.0  # From the start, in units of what the losses scatter and the smoothed loss falls: what is drawn of an explosion.


def of_range(found: RateFound) -> Drawing:
    """A range test: the losses that were met and the mean loss behind them against the rate, and what was found there."""
    x = {
        "field": "rate",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [found.rates[0], found.rates[-1]], "nice": False},
        "axis": {"title": "rate", "format": "~e", "grid": False, "tickCount": 7},
    }
    title = {"text": found.reason, "fontSize": 12, "fontWeight": "normal"}
    spec = {"layer": [_losses(found, x), _places(found, x)], "width": WIDTH, "height": HEIGHT, "title": title}
    return Drawing("Range test", spec, READING, "find_rate(model, optimizer, batches, loss_of).plot()")


def _losses(found: RateFound, x: Spec) -> Spec:
    rows = list(zip(found.rates, found.losses, found.smoothed, strict=False))
    y = {"type": "quantitative", "title": "loss", **axis(_near(rows), HEIGHT)}
    dots = {"type": "point", "filled": True, "size": 16, "opacity": 0.5, "color": LIGHT[6], "clip": True}
    line = {"type": "line", "strokeWidth": 2.4, "color": LIGHT[1], "clip": True}
    return {
        "data": table(["rate", "loss", "smoothed"], rows, numbers=["rate", "loss", "smoothed"]),
        "layer": [
            {"mark": dots, "encoding": {"x": x, "y": {"field": "loss", **y}}},
            {"mark": line, "encoding": {"x": x, "y": {"field": "smoothed", **y}}},
        ],
    }


def _near(rows: list[Any]) -> Any:
    """The losses not too far from the start: what explodes leaves the picture, as it would press all the rest flat."""
    losses, smoothed = (np.array([row[place] for row in rows], np.float64) for place in (1, 2))
    if not len(rows):
        return losses
    scatter = np.ptp(losses[: len(losses) // 3 + 1])
    far = _FAR * max(smoothed[0] - smoothed.min(), scatter)
    return losses[np.abs(losses - smoothed[0]) <= far] if far > 0.0 else losses


def _places(found: RateFound, x: Spec) -> Spec:
    """Upright lines at what was found, with its name on the side that has room."""
    places = {"falls": found.falls, "lowest": found.lowest, "explodes": found.explodes, "suggested": found.rate}
    layers: list[Spec] = []
    for name, rate in places.items():
        if rate is not None:
            colour = {"color": LIGHT[0]} if name == "suggested" else {}
            side = {"align": "right", "dx": -5} if name == "explodes" else {"align": "left", "dx": 5}
            rule = {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.4, **colour}
            text = {"type": "text", "text": name, "y": 8, "baseline": "top", **side, **colour}
            marks = [{"mark": mark, "encoding": {"x": x}} for mark in (rule, text)]
            layers.append({"data": table(["rate"], [[rate]], numbers=["rate"]), "layer": marks})
    return {"layer": layers}
