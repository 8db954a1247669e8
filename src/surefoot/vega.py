"""What all pictures have in common: the look of a Vega-Lite specification, its data, its ticks, and its way to SVG."""

from __future__ import annotations

import csv
from importlib import import_module
from io import StringIO
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Okabe and Ito's colours, vermilion kept for greedy, without their yellow and black, which vanish on white and on black; then
# Tol's indigo and olive.
LIGHT = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#c99700", "#7a7a7a", "#332288", "#8a8a2e")
DARK = ("#ff7f2a", "#4fa3e0", "#2fc296", "#e39cc4", "#9bd4f5", "#f0b93a", "#a5a5a5", "#9d8df1", "#c5c56a")
DASHES = ([1, 0], [6, 3], [2, 3])
# The leading digits that the ticks of a logarithmic axis may have, the closest ticks first.
LEADING = (
    [1 + tenth / 10 for tenth in range(90)],
    [1, 1.5, *range(2, 10)],
    range(1, 10),
    (1, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)

# Specifications are plain dictionaries, not Altair's charts: Altair renames views and hoists selections into every layer of a
# plot, which Vega refuses.
Spec = dict[str, Any]


def converter() -> Any:
    """The module that brings Vega-Lite.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return import_module("vl_convert")
    except ImportError as error:
        raise ImportError("pictures need vl-convert-python: pip install 'surefoot[report]'") from error


def theme(colours: Sequence[str] = LIGHT, *, ink: str = "#33373d", faint: str = "#e4e6e9") -> Spec:
    """What all pictures have in common, as a Vega-Lite configuration."""
    lines = {"labelColor": ink, "titleColor": ink, "gridColor": faint, "domainColor": faint, "tickColor": faint}
    sizes = {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "labelPadding": 4}
    return {
        "font": FONT,
        "background": "transparent",
        "range": {"category": [*colours, *list(colours[1:]) * (len(DASHES) - 1)], "heatmap": [faint, colours[0]]},
        "axis": {**lines, **sizes},
        "rule": {"color": ink},
        "text": {"color": ink, "fontSize": 11},
        "title": {"color": ink, "fontSize": 14, "fontWeight": 600, "anchor": "start", "frame": "group", "offset": 10},
        "legend": {
            "labelColor": ink,
            "labelFontSize": 13,
            "symbolStrokeWidth": 3.5,
            "symbolSize": 260,
            "labelLimit": 260,
            "columnPadding": 24,
        },
        "view": {"stroke": None},
    }


def themes() -> dict[str, Spec]:
    """The theme of a page by day and by night, `light` and `dark`."""
    return {"light": theme(), "dark": theme(DARK, ink="#c9ced6", faint="#2c3036")}


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, both above 0, for a logarithmic axis: many, but at most `most`.

    >>> ticks(0.3, 0.9, most=8), ticks(0.3, 0.9, most=4)
    ([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], [0.3, 0.5, 0.7])
    """
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for leading in LEADING:
        found = [float(f"{digits}e{decade}") for decade in decades for digits in leading]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            return found
    every = ceil(len(decades) / most)
    return [tick for tick in (float(f"1e{decade}") for decade in decades[::every]) if low <= tick <= high]


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str]) -> Spec:
    """Rows as a specification's data, in comma-separated values: a third of the size of one object per row."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{item:.5g}" if isinstance(item, float) else item for item in row] for row in rows)
    return {"values": text.getvalue(), "format": {"type": "csv", "parse": dict.fromkeys(numbers, "number")}}


def on_white(specification: Spec) -> Spec:
    """A specification with the theme by day, on white paper with a margin."""
    return {**specification, "config": {**theme(), "background": "white"}, "padding": 8}


def svg(specification: Spec) -> str:
    """A specification drawn as SVG on white.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    drawn: str = converter().vegalite_to_svg(on_white(specification))
    return drawn
