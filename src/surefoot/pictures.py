"""Cells and policies as Vega-Lite specifications, and as SVG."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from surefoot import checks, curves
from surefoot.policy import schedule
from surefoot.vega import DASHES, LIGHT, Spec, svg, table, ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from surefoot.curves import Curves
    from surefoot.policy import Policy
    from surefoot.stats import Cell

WIDTH, HEIGHT, LOW_HEIGHT, GAP = 512, 330, 130, 28
FADED = 0.07
AT = "at step"  # Not "step", which may well be a policy's name.
TICK_ROOM = 30  # Pixels.


def order(labels: Iterable[str]) -> list[str]:
    """The labels in the order of their colours: greedy's comes first, and stays kept for it where there is no greedy."""
    listed = list(labels)
    return list(dict.fromkeys([curves.star(listed), *listed]))


def look(number: int) -> tuple[int, int]:
    """The positions of a label's colour in `LIGHT` and of its dashes in `DASHES`.

    When the colours are used up they come again in dashes, all but greedy's.
    """
    cycle, colour = divmod(max(number - 1, 0), len(LIGHT) - 1)
    return (colour + 1, cycle % len(DASHES)) if number else (0, 0)


def specification(cell: Cell, colours: Sequence[str], *, training: bool = True) -> Spec:
    """One cell's plots side by side, with one legend for all of them; no configuration.

    Args:
        cell: What is drawn.
        colours: All labels in the order of their colours, as `order` returns them.
        training: Whether the training loss is drawn too, below the rates and the held-out loss.
    """
    shared = {"x": _step(cell.steps), "color": _hue(cell.runs, colours)}
    rates = _plot("rates", curves.rates(cell), shared, title="Learning rate", width=WIDTH, height=HEIGHT)
    # The legend's selection lives in one view, and all the others refer to it.
    shown = {"name": "shown", "select": {"type": "point", "fields": ["policy"]}, "bind": "legend"}
    rates["layer"][0]["params"] = [shown]
    rates["layer"].insert(0, _base(cell.base))
    held_out = _plot("held_out", curves.held_out(cell), shared, title="Held-out loss", width=WIDTH, height=HEIGHT)
    above = {"hconcat": [rates, held_out], "spacing": GAP}
    if not training:
        return above
    size = {"width": 2 * WIDTH + GAP + 44, "height": LOW_HEIGHT}
    below = _plot("training", curves.training(cell), shared, title="Training loss, running mean", **size)
    return {"vconcat": [above, below], "spacing": GAP}


def picture(cell: Cell) -> str:
    """The learning rates and the held-out losses of one cell side by side, as SVG on white.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    return svg(specification(cell, order(cell.runs), training=False))


def policy_picture(
    policies: Mapping[str, Policy[Any]],
    steps: int,
    losses: Sequence[float] | None = None,
    *,
    width: int = 560,
    height: int = 220,
    log: bool = False,
) -> str:
    """The scale of each policy against the step, as SVG on white.

    Args:
        policies: Policies by label.
        steps: How many steps to draw, 1 or more.
        losses: The loss met at each step, at least `steps - 1` of them; a loss that stays at 1 if None, which is all that
            schedules of time need.
        width: Width of the plot in pixels, without axes and legend.
        height: Its height.
        log: Whether the axis of the scale is logarithmic; scales below a thousandth are then drawn at a thousandth.

    Raises:
        ImportError: vl-convert-python is not installed.
        ValueError: The number of steps is below 1, or there are too few losses.
    """
    checks.whole("steps", steps, low=1)
    met = [1.0] * (steps - 1) if losses is None else list(losses)[: steps - 1]
    if len(met) < steps - 1:
        raise ValueError(
            f"losses must be {steps - 1} or more for {steps} steps, got {len(met)} (give more, or draw fewer steps)"
        )
    rows = [
        (label, step, max(float(state.scale), curves.SMALLEST_SCALE) if log else float(state.scale))
        for label, policy in policies.items()
        for step, state in enumerate(schedule(policy, met))
    ]
    y: Spec = {"field": "value", "type": "quantitative"}
    if log:
        y |= _height([row[2] for row in rows], height, log=True)
    y["axis"] = {**y.get("axis", {"format": ".3~g"}), "title": "scale"}
    hue = _hue(policies, order(policies))
    encoding = {"x": _step(steps), "y": y, "color": hue, "strokeDash": _dashes(hue)}
    mark = {"type": "line", "strokeWidth": 2.2, "strokeJoin": "round"}
    data = table(["policy", "step", "value"], rows, numbers=["step", "value"])
    return svg({"data": data, "mark": mark, "encoding": encoding, "width": width, "height": height})


def _plot(name: str, drawn: Curves, shared: Spec, *, height: int, **properties: Any) -> Spec:
    """One plot: bands, single seeds, lines, crosses where runs diverged, and the rule that follows the pointer."""
    y = {"field": "value", "type": "quantitative", **_height([drawn.low, drawn.high], height, log=drawn.log)}
    star = {"field": "policy", "equal": curves.star(drawn.values)}
    width = {"condition": {"test": star, "value": 3.2}, "value": 1.9}
    line = {"type": "line", "clip": True, "strokeJoin": "round"}
    cross = {"type": "point", "shape": "cross", "angle": 45, "size": 110, "filled": True}
    dashes = _dashes(shared["color"])
    layers = [
        _part("band", {"type": "area", "clip": True}, y2={"field": "high"}, fillOpacity=_seen(0.13)),
        _part(
            "seed",
            {**line, "strokeWidth": 1},
            detail={"field": "seed", "type": "nominal"},
            strokeDash=dashes,
            strokeOpacity=_seen(0.4),
        ),
        _part("middle", line, strokeDash=dashes, opacity=_seen(1.0), strokeWidth=width),
        _part("end", cross, opacity=_seen(1.0)),
        _pointer(name, drawn),
    ]
    data = table(["policy", "part", "seed", "step", "value", "high"], drawn.points, numbers=["step", "value", "high"])
    return {"data": data, "encoding": {**shared, "y": y}, "layer": layers, "height": height, **properties}


def _height(values: Sequence[float], height: int, *, log: bool) -> Spec:
    """Scale and axis for these values, with a little room at both ends."""
    low, high = min(values), max(values)
    if log:
        domain = [low / 1.15, high * 1.15]
        axis = {"format": ".3~g", "title": None, "values": ticks(domain[0], domain[1], most=height // TICK_ROOM)}
        return {"scale": {"type": "log", "domain": domain, "nice": False}, "axis": axis}
    margin = 0.05 * (high - low) or 1.0
    domain = [low - margin, high + margin]
    return {"scale": {"type": "linear", "domain": domain, "nice": False, "zero": False}, "axis": {"title": None}}


def _part(part: str, mark: Spec, **encoding: Any) -> Spec:
    return {"mark": mark, "transform": [{"filter": {"field": "part", "equal": part}}], "encoding": encoding}


def _seen(strength: float) -> Spec:
    return {"condition": {"param": "shown", "value": strength}, "value": FADED * strength}


def _pointer(name: str, drawn: Curves) -> Spec:
    """A rule at the stop nearest to the pointer, and every policy's value there."""
    labels = sorted(drawn.values, key=order(drawn.values).index)
    texts = [[f"{value:.3g}" if isfinite(value) else "ended" for value in drawn.values[label]] for label in labels]
    select = {"type": "point", "fields": [AT], "nearest": True, "on": "pointerover", "clear": "pointerout"}
    opacity = {"condition": {"param": f"at_{name}", "empty": False, "value": 0.6}, "value": 0}
    x = {"field": AT, "type": "quantitative"}
    return {
        # The tooltip lists a row of this table: with fields of its own Vega-Lite looks for texts in the wrong place.
        "data": table([AT, *labels], zip(drawn.stops.tolist(), *texts, strict=True), numbers=[AT]),
        "mark": {"type": "rule", "strokeWidth": 1, "tooltip": {"content": "data"}},
        "params": [{"name": f"at_{name}", "select": select}],
        "encoding": {"x": x, "y": None, "color": None, "opacity": opacity},
    }


def _base(base: float) -> Spec:
    """A dotted rule at the base rate, with its name."""
    rule = {"mark": {"type": "rule", "strokeDash": [2, 4], "opacity": 0.55}}
    name = {"type": "text", "align": "right", "x": "width", "dx": -4, "dy": 10, "opacity": 0.7, "text": "base rate"}
    none = {"x": None, "color": None}
    return {"data": {"values": [{"value": base}]}, "encoding": none, "layer": [rule, {"mark": name}]}


def _hue(labels: Iterable[str], colours: Sequence[str]) -> Spec:
    listed = sorted(labels, key=colours.index)
    legend = {"orient": "top", "title": None, "values": listed, "symbolType": "stroke", "columns": 8}
    return {"field": "policy", "type": "nominal", "scale": {"domain": list(colours)}, "legend": legend}


def _dashes(hue: Spec) -> Spec:
    labels = hue["scale"]["domain"]
    dashes = [DASHES[look(number)[1]] for number in range(len(labels))]
    return {**hue, "scale": {"domain": labels, "range": dashes}}


def _step(last: float) -> Spec:
    axis = {"format": ",d", "grid": False, "tickCount": 6}
    scale = {"domain": [0, last], "nice": False}
    return {"field": "step", "type": "quantitative", "title": "optimizer step", "scale": scale, "axis": axis}
