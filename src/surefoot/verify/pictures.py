"""What was found on the problems as Vega-Lite specifications, and as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.nmf.verification import catapult
from surefoot.vega import Spec, svg, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from surefoot.verify.run import Verdict

Verdicts = dict[str, "Verdict"]

WIDTH, HEIGHT, GAP = 455, 300, 60
TIGHTNESS = {
    "tight-block": "block edge, at every step",
    "tight-segment": "segment edge, at every step",
    "tight-a-priori": "a-priori edge, from the start",
    "tight-start": "block edge at the start, kept",
}
_LOW_HEIGHT = 120
_SMALLEST, _HALF = 1 / 32, 30
_NOISE, _RATE = np.geomspace(0.01, 10.0, 13), np.geomspace(0.1, 100.0, 16)
_JOINT, _MEAN = np.linspace(0.5, 4.0, 15), np.geomspace(0.1, 10.0, 11)


class Axis(NamedTuple):
    """One side of a map.

    Attributes:
        name: The column that is measured there.
        title: What stands beside the axis.
        edges: Where its bins begin and end.
        log: Whether it is logarithmic.
    """

    name: str
    title: str
    edges: NDArray[np.float64]
    log: bool = True


_NOISE_AXIS = Axis("noise", "noise / gradient, at the start", _NOISE)
_RATE_AXIS = Axis("rate", "rate / edge, at the start", _RATE)
_JOINT_AXIS = Axis("rate", "rate / edge, at the start", _JOINT, log=False)
_MEAN_AXIS = Axis("mean", "mean of WH / mean of V, at the start", _MEAN)


def tightness(verdicts: Verdicts) -> Spec:
    """Histograms of the largest stable multiple of each edge, side by side, with a rule at 1."""
    plots = [_histogram(verdicts[name].columns["worst"], title) for name, title in TIGHTNESS.items()]
    return {"vconcat": [{"hconcat": plots[:2], "spacing": GAP}, {"hconcat": plots[2:], "spacing": GAP}], "spacing": 30}


def noise(verdicts: Verdicts) -> Spec:
    """Where long noisy runs fail, by noise and rate, as the rate was set and with cap and clip."""
    titles = {"as-set": "Rate as it was set", "as-set-and-clipped": "The same rate, capped and clipped"}
    found = {title: verdicts[name].columns for name, title in titles.items()}
    axes, what = (_NOISE_AXIS, _RATE_AXIS), "runs that failed"
    maps = [_map(each, each["failures"] > 0, axes, title=title, what=what, full=1.0) for title, each in found.items()]
    return {"hconcat": maps, "spacing": GAP}


def region(verdicts: Verdicts) -> Spec:
    """What becomes of joint descent at a constant rate, by that rate, and by where it starts."""
    columns = verdicts["catapult"].columns
    is_catapult = columns["fate"] == catapult.CATAPULT
    title = "Climbed first, and then fitted"
    there = _map(columns, is_catapult, (_JOINT_AXIS, _MEAN_AXIS), title=title, what="such runs")
    return {"hconcat": [_fates(columns), there], "spacing": GAP}


def drawn(verdicts: Sequence[Verdict]) -> dict[str, Spec]:
    """All pictures by name, of those whose checks are there."""
    by_name = {verdict.rule.name: verdict for verdict in verdicts if verdict.problems}
    needed = {"tightness": TIGHTNESS, "noise": ("as-set", "as-set-and-clipped"), "catapult": ("catapult",)}
    makers = {"tightness": tightness, "noise": noise, "catapult": region}
    return {name: makers[name](by_name) for name, rules in needed.items() if all(rule in by_name for rule in rules)}


def drawings(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The same as SVG on white.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    return {name: svg(spec) for name, spec in drawn(verdicts).items()}


def _histogram(values: NDArray[np.float64], title: str) -> Spec:
    """How many problems have their largest stable multiple where; those below 1 in the colour of failure."""
    bins = np.geomspace(_SMALLEST, 1.0 / _SMALLEST, 61)  # One of the ends is 1.
    counts, _ = np.histogram(np.clip(values, bins[0], bins[-1]), bins)
    sides = ["below 1", "1 or more"]
    rows = [(bins[at], bins[at + 1], int(counts[at]), sides[int(at >= _HALF)]) for at in np.flatnonzero(counts)]
    x = _axis(Axis("low", "largest stable multiple of the edge", bins), ticks=[0.03, 0.1, 0.3, 1, 3, 10, 30])
    numbers = ["low", "high", "problems"]
    bars = {
        "data": table([*numbers, "side"], rows, numbers=numbers),
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            "x": x,
            "x2": {"field": "high"},
            "y": {"field": "problems", "type": "quantitative", "title": "problems", "axis": {"tickCount": 4, "format": "d"}},
            "y2": {"datum": 0},
            "color": {"field": "side", "type": "nominal", "scale": {"domain": sides}, "legend": None},
            "tooltip": [_shown("problems", "d"), _shown("low", ".3~g", "from"), _shown("high", ".3~g", "to")],
        },
    }
    one = {"data": {"values": [{"low": 1}]}, "mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"x": x}}
    named = f"{title}: median {np.median(values):.2f}, lowest {values.min():.2f}"
    return {"layer": [bars, one], "width": WIDTH, "height": _LOW_HEIGHT, "title": {"text": named, "fontSize": 13}}


def _map(
    columns: Mapping[str, NDArray[Any]],
    happened: NDArray[np.bool_],
    axes: tuple[Axis, Axis],
    *,
    title: str,
    what: str,
    full: float | None = None,
) -> Spec:
    """The share of problems to which something happened, by two of the things that they were drawn with; `full` is dark."""
    across, up = axes
    x, y, bins = columns[across.name], columns[up.name], (across.edges, up.edges)
    counts, hits = np.histogram2d(x, y, bins)[0], np.histogram2d(x[happened], y[happened], bins)[0]
    rows = [
        (*across.edges[[i, i + 1]].tolist(), *up.edges[[j, j + 1]].tolist(), hits[i, j] / counts[i, j], int(counts[i, j]))
        for i, j in np.argwhere(counts > 0)
    ]
    names = [across.name, "right", up.name, "top", "share", "problems"]
    most = max((row[4] for row in rows), default=1.0) or 1.0
    share = {"field": "share", "type": "quantitative", "scale": {"domain": [0, full or most], "interpolate": "rgb"}}
    legend = {"title": None, "format": ".0%", "gradientLength": HEIGHT // 2, "titleFontWeight": "normal"}
    return {
        "data": table(names, rows, numbers=names),
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            "x": _axis(across),
            "x2": {"field": "right"},
            "y": _axis(up),
            "y2": {"field": "top"},
            "color": {**share, "legend": legend},
            "tooltip": [
                _shown("share", ".0%", what),
                _shown(across.name, ".3~g"),
                _shown(up.name, ".3~g"),
                _shown("problems", "d"),
            ],
        },
        "width": WIDTH - 40,
        "height": HEIGHT,
        "title": {"text": title, "fontSize": 13},
    }


def _fates(columns: Mapping[str, NDArray[Any]]) -> Spec:
    """Bars of how runs ended, by rate."""
    names = {catapult.FAILED: "failed", catapult.CATAPULT: "climbed first, then fitted", catapult.DIRECT: "fell from the start"}
    which = np.digitize(columns["rate"], _JOINT) - 1
    rows = []
    for place in range(len(_JOINT) - 1):
        fates, base = columns["fate"][which == place], 0.0
        for fate, name in names.items():
            share = float(np.mean(fates == fate)) if len(fates) else 0.0
            rows.append((_JOINT[place], _JOINT[place + 1], base, base + share, name, share))
            base += share
    fields = ["rate", "right", "from", "to", "fate", "share"]
    y = {
        "field": "from",
        "type": "quantitative",
        "title": "share of the runs",
        "axis": {"format": ".0%"},
        "scale": {"domain": [0, 1]},
    }
    legend = {"title": None, "orient": "top", "symbolType": "square", "symbolSize": 120}
    return {
        "data": table(fields, rows, numbers=[name for name in fields if name != "fate"]),
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            "x": _axis(_JOINT_AXIS),
            "x2": {"field": "right"},
            "y": y,
            "y2": {"field": "to"},
            "color": {"field": "fate", "type": "nominal", "scale": {"domain": list(names.values())}, "legend": legend},
            "tooltip": [_shown("fate"), _shown("share", ".0%"), _shown("rate", ".3~g")],
        },
        "width": WIDTH - 40,
        "height": HEIGHT - 30,
    }


def _axis(axis: Axis, ticks: Sequence[float] | None = None) -> Spec:
    domain = [float(axis.edges[0]), float(axis.edges[-1])]
    scale = {"type": "log", "domain": domain, "nice": False}
    if not axis.log:
        scale |= {"type": "linear", "zero": False}
    decades = [10.0**power for power in range(-2, 3) if domain[0] <= 10.0**power * 1.001 and 10.0**power <= domain[1] * 1.001]
    values = ticks or (decades if axis.log else [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4])
    shown = {"grid": False, "values": list(values), "format": ".3~g"}
    return {"field": axis.name, "type": "quantitative", "title": axis.title, "scale": scale, "axis": shown}


def _shown(field: str, form: str | None = None, title: str | None = None) -> Spec:
    how = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
    return {"field": field, **how, "title": title or field}
