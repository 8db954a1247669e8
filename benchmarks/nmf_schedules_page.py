"""The tables and pictures of docs/nmf/schedules.md, from the rows of benchmarks/nmf_schedules.py.

    python benchmarks/nmf_schedules_page.py

Ratios are paired, seed by seed: the median of the ratios, with a 95% interval from 10,000 bootstrap samples of the seeds. A
ratio is called better if the one-sided 95% upper bound lies below 1, equal if it lies below 1.01, worse if the lower bound lies
above 1, and open otherwise.
"""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmf_schedules import FACTORS, LIMITS, POINTS, POLICIES, SETTINGS, STEPS, read
from surefoot.vega import LIGHT, converter, theme

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

DOCS = Path(__file__).parents[1] / "docs"
PAGE, IMAGES = DOCS / "nmf" / "schedules.md", DOCS / "images"
REFERENCE = "cosine"
TUNED = FACTORS.index(1.0)
SAMPLES, MARGIN = 10_000, 1.01
TOP = 1.5  # Where failures are drawn.
LABELS = {
    "exact": "exact gradients",
    **{f"noise {noise}": f"noise of {noise} times the first gradient" for noise in ("0.1", "0.5", "2")},
    **{f"batch {size}": f"batches of {size} of 240 rows" for size in (60, 12)},
}

Rows = dict[tuple[str, str, str], dict[str, Any]]


def numbers(values: Iterable[float | None]) -> NDArray[np.float64]:
    """The rows' None back as infinity."""
    return np.array([inf if value is None else value for value in values])


def compared(errors: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, float, float, str]:
    """The median of the paired ratios, its 95% interval, and the verdict; a failure of both is a draw."""
    with np.errstate(invalid="ignore"):
        ratios = np.where(np.isinf(errors) & np.isinf(others), 1.0, errors / others)
    seeds = np.random.default_rng(0).integers(len(ratios), size=(SAMPLES, len(ratios)))
    low, lower, upper, high = np.quantile(np.median(ratios[seeds], axis=1), (0.025, 0.05, 0.95, 0.975), method="nearest")
    verdict = "better" if upper < 1.0 else "equal" if upper < MARGIN else "worse" if lower > 1.0 else "open"
    return float(np.median(ratios)), float(low), float(high), verdict


def tuned(rows: Rows, setting: str, limits: str, name: str) -> NDArray[np.float64]:
    """Errors at the tuned rate, by seed."""
    return numbers(rows[setting, limits, name]["judged"][TUNED])


def finals(rows: Rows, setting: str) -> Iterator[str]:
    """Errors at tuned rates: one row per schedule."""
    yield "| schedule | plain | clipped | in units of the bound | clipped : plain | clipped : clipped cosine |"
    yield "|---|---|---|---|---|---|"
    for name in sorted(POLICIES, key=lambda name: np.median(tuned(rows, setting, "clipped", name))):
        plain, clipped, bound = (tuned(rows, setting, limits, name) for limits in LIMITS)
        *saved, verdict = compared(clipped, plain)
        ratio = "the same" if saved == [1.0, 1.0, 1.0] else f"{_ratio(*saved)} {verdict}"
        *against, judged = compared(clipped, tuned(rows, setting, "clipped", REFERENCE))
        versus = "" if name == REFERENCE else f"{_ratio(*against)} {judged}"
        yield f"| {name} | {_median(plain)} | {_median(clipped)} | {_median(bound)} | {ratio} | {versus} |"


def wrong(rows: Rows) -> Iterator[str]:
    """At rates that are set wrong: failures, and the error over that at the tuned rate, in the worst of the settings."""
    yield "| schedule | steps | " + " | ".join(f"x {factor:g}" for factor in FACTORS) + " | other matrices |"
    yield "|---|---|" + "---|" * (len(FACTORS) + 1)
    for name in POLICIES:
        for limits in LIMITS:
            mine = [rows[setting, limits, name] for setting in SETTINGS]
            cells = [_at_factor(mine, place) for place in range(len(FACTORS)) if place != TUNED]
            cells.insert(TUNED, _failures(mine, TUNED) or "1")
            elsewhere = sum(int(np.isinf(numbers(row["elsewhere"])).sum()) for row in mine)
            yield f"| {name} | {limits} | {' | '.join(cells)} | {f'{elsewhere} failed' if elsewhere else ''} |"


def _at_factor(mine: list[dict[str, Any]], place: int) -> str:
    worst = max(np.median(numbers(row["judged"][place])) / np.median(numbers(row["judged"][TUNED])) for row in mine)
    failed = _failures(mine, place)
    return failed if np.isinf(worst) else f"{worst:.2g}" + (f", {failed}" if failed else "")


def _failures(mine: list[dict[str, Any]], place: int) -> str:
    failed = sum(int(np.isinf(numbers(row["judged"][place])).sum()) for row in mine)
    return f"{failed} failed" if failed else ""


def totals(rows: Rows) -> Iterator[str]:
    """Failures of all schedules together."""
    yield "| steps | " + " | ".join(f"x {factor:g}" for factor in FACTORS) + " | other matrices | runs each |"
    yield "|---|" + "---|" * (len(FACTORS) + 2)
    for limits in LIMITS:
        mine = [row for (_, kind, _), row in rows.items() if kind == limits]
        failed = [sum(np.isinf(numbers(row["judged"][place])).sum() for row in mine) for place in range(len(FACTORS))]
        elsewhere = sum(np.isinf(numbers(row["elsewhere"])).sum() for row in mine)
        runs = sum(len(row["elsewhere"]) for row in mine)
        yield f"| {limits} | {' | '.join(map(str, failed))} | {elsewhere} | {runs:,} |"


def _median(errors: NDArray[np.float64]) -> str:
    failed, middle = int(np.isinf(errors).sum()), float(np.median(errors))
    return f"{middle:.3g}" + (f" ({failed} failed)" if failed else "")


def _ratio(middle: float, low: float, high: float) -> str:
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def cliff(rows: Rows) -> dict[str, Any]:
    """Final error against base rate, on the matrices for tuning."""
    values = []
    for (setting, limits, name), row in rows.items():
        if name in {"constant", REFERENCE}:
            for rate, *errors in row["tuning"]:
                failed = sum(error is None for error in errors)
                middle = min(float(np.median(numbers(errors))), TOP)
                values.append(
                    {
                        "setting": LABELS[setting],
                        "steps": limits,
                        "schedule": name,
                        "rate": rate,
                        "error": middle,
                        "failed": failed,
                    }
                )
    line = {
        "mark": {"type": "line", "strokeWidth": 2, "clip": True},
        "encoding": {"strokeDash": {"field": "schedule", "legend": _legend()}},
    }
    cross = {
        "mark": {"type": "point", "shape": "cross", "angle": 45, "size": 60, "filled": True, "clip": True},
        "transform": [{"filter": "datum.failed > 0"}],
    }
    x = {
        "field": "rate",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [0.003, 100], "nice": False},
        "axis": {"title": "base rate, in first edges", "tickCount": 4, "format": "~g"},
    }
    y = {
        "field": "error",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [0.02, 1.15 * TOP]},
        "axis": {"title": "final error", "values": [0.02, 0.05, 0.1, 0.2, 0.5, 1]},
    }
    return _facets(values, [line, cross], {"x": x, "y": y, "color": _colour("steps", LIMITS)}, height=190)


def descent(rows: Rows) -> dict[str, Any]:
    """Error against step at the tuned rate, plain: clipped, many schedules would lie on each other."""
    at = np.linspace(0, STEPS - 1, POINTS).round().astype(int)
    values = [
        {"setting": LABELS[setting], "schedule": name, "step": int(step), "error": min(error, TOP)}
        for (setting, limits, name), row in rows.items()
        if limits == "plain"
        for step, error in zip(at, numbers(row["curve"]), strict=True)
    ]
    x = {"field": "step", "type": "quantitative", "axis": {"title": "step", "tickCount": 4, "grid": False}}
    y = {
        "field": "error",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [0.02, 1.0]},
        "axis": {"title": "error", "values": [0.02, 0.05, 0.1, 0.2, 0.5, 1]},
    }
    dash = {
        "field": "schedule",
        "scale": {"domain": list(POLICIES), "range": [[1, 0]] * 6 + [[1, 0], [6, 3], [1, 0], [6, 3]]},
        "legend": None,
    }
    mark = {"mark": {"type": "line", "strokeWidth": 1.7, "clip": True}}
    encoding = {"x": x, "y": y, "color": _colour("schedule", POLICIES), "strokeDash": dash}
    return _facets(values, [mark], encoding, height=230)


def forest(rows: Rows) -> dict[str, Any]:
    """Final error over that of the clipped cosine, at tuned rates, with its interval."""
    values = []
    for setting in SETTINGS:
        for limits in LIMITS:
            for name in POLICIES:
                reference = tuned(rows, setting, "clipped", REFERENCE)
                middle, low, high, _ = compared(tuned(rows, setting, limits, name), reference)
                values.append(
                    {
                        "setting": LABELS[setting],
                        "steps": limits,
                        "schedule": name,
                        "ratio": min(middle, 4.0),
                        "low": min(low, 4.0),
                        "high": min(high, 4.0),
                    }
                )
    x = {
        "field": "ratio",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [0.6, 4.0]},
        "axis": {"title": "final error : clipped cosine's", "values": [0.6, 0.8, 1, 1.5, 2, 3, 4], "format": "~g"},
    }
    y = {"field": "schedule", "type": "nominal", "sort": list(POLICIES), "axis": {"title": None}}
    shift = {"field": "steps", "scale": {"domain": list(LIMITS)}}
    bar = {
        "mark": {"type": "rule", "strokeWidth": 1.5, "clip": True},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }
    dot = {"mark": {"type": "point", "filled": True, "size": 34, "opacity": 1, "clip": True}}
    one = {
        "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.6},
        "encoding": {"x": {"datum": 1}, "y": None, "yOffset": None, "color": None},
    }
    return _facets(values, [one, bar, dot], {"x": x, "y": y, "yOffset": shift, "color": _colour("steps", LIMITS)}, height=270)


def _facets(
    values: list[dict[str, Any]], layer: list[dict[str, Any]], encoding: dict[str, Any], *, height: int
) -> dict[str, Any]:
    """One small plot per setting."""
    header = {"title": None, "labelFontSize": 13, "labelFontWeight": 600, "labelAnchor": "start"}
    return {
        "data": {"values": values},
        "facet": {"field": "setting", "type": "nominal", "sort": list(LABELS.values()), "header": header},
        "columns": 3,
        "spec": {"layer": layer, "encoding": encoding, "width": 260, "height": height},
        "spacing": 28,
        "padding": 8,
        "config": {**theme(), "background": "white"},
    }


def _colour(field: str, names: Iterable[str]) -> dict[str, Any]:
    listed = list(names)
    blue, red, green, *others = LIGHT[1], LIGHT[0], LIGHT[2], *LIGHT[3:]
    colours = {
        "constant": "#7a7a7a",
        "greedy": red,
        "greedy, short": red,
        "hypergradient": "#332288",
        "hypergradient +": "#332288",
    }
    colours |= {"plain": red, "clipped": blue, "bound": green}
    spare = iter([blue, green, *others])
    scale = {"domain": listed, "range": [colours.get(name) or next(spare) for name in listed]}
    return {"field": field, "type": "nominal", "scale": scale, "legend": _legend()}


def _legend() -> dict[str, Any]:
    return {"orient": "top", "title": None, "columns": 5, "symbolType": "stroke"}


def main() -> None:
    """Write the tables into the page, and the pictures beside it."""
    rows = read()
    for name, draw in (("cliff", cliff), ("descent", descent), ("finals", forest)):
        (IMAGES / f"nmf-schedules-{name}.svg").write_text(converter().vegalite_to_svg(draw(rows)), "utf-8")
    tables = {"wrong": wrong(rows), "totals": totals(rows)} | {setting: finals(rows, setting) for setting in SETTINGS}
    text = PAGE.read_text("utf-8")
    for name, lines in tables.items():
        marked = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)"
        text = re.sub(marked, lambda found, lines=lines: f"{found[1]}{chr(10).join(lines)}\n{found[2]}", text, flags=re.DOTALL)
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
