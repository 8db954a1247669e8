"""Runs as curves to draw: thinned, aligned over seeds, and free of values that no picture can show."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from surefoot.runs import Run
    from surefoot.stats import Cell

GREEDY = "greedy"
POINTS = 400  # Of a policy's line; more could not be told apart on a plot of 500 pixels.
SEED_POINTS = 200
STOPS = 160  # Of the rule that follows the pointer.
SMALLEST_SCALE = 1e-3  # Of the rate plot's axis: greedy's own limit is ten times as much, and cosine passes it at the very end.
LARGEST_LOSS = 3.0  # Of the loss plots' axes, as a multiple of the loss before training.
SMOOTHED = 0.02  # Of the budget, for the running mean of the training loss.


class Point(NamedTuple):
    """One point of a drawing.

    Attributes:
        policy: The policy's label.
        part: `"middle"` for the line over all seeds, `"seed"` for one seed's, `"band"` for the range over seeds, and
            `"end"` for the place where a run diverged.
        seed: The run's position among its policy's; None for what belongs to all of them.
        step: Optimizer step.
        value: Height, or the band's lower edge.
        high: The band's upper edge; None elsewhere.
    """

    policy: str
    part: str
    seed: int | None
    step: float
    value: float
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Curves:
    """One plot's worth of curves.

    Attributes:
        points: What is drawn, greedy last so that it lies on top; all values are finite.
        stops: The steps at which the values can be read off.
        values: For each policy its values at `stops`; NaN where it has none.
        low, high: The axis, from the lowest to the highest value shown.
        log: Whether the axis is logarithmic; then both ends are above 0.
    """

    points: Sequence[Point]
    stops: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]]
    low: float
    high: float
    log: bool


def thin(values: NDArray[Any], limit: int) -> NDArray[np.intp]:
    """Positions of at most `limit` values, in order, that keep the first, the last, and each stretch's lowest and highest.

    >>> thin(np.array([5.0, 4.0, 9.0, 4.0, 5.0, 5.0, -9.0, 6.0]), limit=6).tolist()
    [0, 1, 2, 6, 7]

    Args:
        values: Finite values, at least one.
        limit: 4 or more.
    """
    count = len(values)
    if count <= limit:
        return np.arange(count)
    edges = np.linspace(0, count, (limit - 2) // 2 + 1).astype(int)
    kept = [0, count - 1]
    for start, stop in pairwise(edges.tolist()):
        kept += [start + values[start:stop].argmin(), start + values[start:stop].argmax()]
    return np.unique(kept)


def star(labels: Iterable[str]) -> str:
    """The label that stands out: the first that begins with `greedy`, such as `greedy(patience=5)`, or `greedy` itself."""
    return next((label for label in labels if label.startswith(GREEDY)), GREEDY)


def rates(cell: Cell) -> Curves:
    """The learning rate at every step: the median over seeds, and each seed where they differ.

    Rates below a thousandth of the base rate, zero among them, are drawn at that height.
    """
    low, high = _limits([cell.base, *(run.rate for runs in cell.runs.values() for run in runs)])
    low = max(low, SMALLEST_SCALE * cell.base)
    stops = np.unique(np.linspace(0, cell.steps - 1, STOPS).round())
    points: list[Point] = []
    values: dict[str, NDArray[np.float64]] = {}
    for label, runs in _greedy_last(cell):
        table = _table([run.rate for run in runs], cell.steps)
        middle = _over_seeds(np.nanmedian, table)
        points += _line(label, "middle", None, middle, POINTS)
        if not np.array_equal(table, np.broadcast_to(table[:1], table.shape), equal_nan=True):
            for seed, row in enumerate(table):
                points += _line(label, "seed", seed, row, SEED_POINTS)
        points += _crosses(label, runs)
        values[label] = middle[stops.astype(int)]
    return Curves(_raised(points, low), stops, values, low, high, log=True)


def held_out(cell: Cell) -> Curves:
    """The held-out loss: the mean over seeds, and the band from the lowest to the highest seed."""
    stops = np.unique(np.concatenate([run.held_out_step for runs in cell.runs.values() for run in runs])).astype(np.float64)
    tables = {label: _table([_at(run, stops) for run in runs], len(stops)) for label, runs in _greedy_last(cell)}
    return _losses(cell, stops, tables)


def training(cell: Cell) -> Curves:
    """The training loss: a running mean over the last 2% of the budget, averaged over seeds."""
    stops = np.unique(np.linspace(1, cell.steps, POINTS).round())
    window = max(1, round(SMOOTHED * cell.steps))
    tables = {
        label: _table([_running_mean(run.loss, stops, window) for run in runs], len(stops))
        for label, runs in _greedy_last(cell)
    }
    return _losses(cell, stops, tables, band=False)


def _losses(cell: Cell, stops: NDArray[np.float64], tables: dict[str, NDArray[np.float64]], *, band: bool = True) -> Curves:
    points: list[Point] = []
    values = {label: _over_seeds(np.nanmean, table) for label, table in tables.items()}
    for label, table in tables.items():
        points += [Point(label, "middle", None, *pair) for pair in _finite(stops, values[label])]
        if band and len(table) > 1:
            lowest, highest = _over_seeds(np.nanmin, table), _over_seeds(np.nanmax, table)
            points += [Point(label, "band", None, *edges) for edges in _finite(stops, lowest, highest)]
    drawn = np.array([value for point in points for value in (point.value, point.high) if value is not None])
    log = not (drawn < 0.0).any()
    low, high = _limits([drawn]) if log else (float(drawn.min()), float(drawn.max()))
    # Before the first step all policies stand at the same loss. What climbs far above it leaves the picture: a loss of 1e20
    # would press all the others flat.
    _, start = _limits([run.loss[0] for runs in cell.runs.values() for run in runs])
    high = min(high, max(LARGEST_LOSS * start, 2.0 * low)) if log else high
    # What diverged left the picture at its upper edge, if not before.
    crosses = [cross for label in tables for cross in _crosses(label, cell.runs[label], high)]
    return Curves([*_raised(points, low), *crosses], stops, values, low, high, log=log)


def _raised(points: Iterable[Point], low: float) -> list[Point]:
    return [point._replace(value=max(point.value, low)) for point in points]


def _greedy_last(cell: Cell) -> list[tuple[str, Sequence[Run]]]:
    last = star(cell.runs)
    return sorted(cell.runs.items(), key=lambda item: item[0] == last)


def _table(rows: Sequence[NDArray[Any]], width: int) -> NDArray[np.float64]:
    """The rows below each other, with NaN where one is shorter or its value is not finite."""
    table = np.full((len(rows), width), np.nan)
    for target, row in zip(table, rows, strict=True):
        target[: len(row)] = np.where(np.isfinite(row), row, np.nan)[:width]
    return table


def _over_seeds(how: Callable[..., Any], table: NDArray[np.float64]) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Where all seeds have ended there is nothing: NaN says so.
        return np.asarray(how(table, axis=0))


def _line(label: str, part: str, seed: int | None, row: NDArray[np.float64], limit: int) -> list[Point]:
    steps = np.flatnonzero(np.isfinite(row))
    kept = steps[thin(row[steps], limit)]
    return [Point(label, part, seed, *pair) for pair in _finite(kept, row[kept])]


def _crosses(label: str, runs: Sequence[Run], height: float | None = None) -> list[Point]:
    """Where the diverged runs ended, at this height, or at their last rate."""
    return [
        Point(label, "end", seed, float(len(run.rate) - 1), float(run.rate[-1]) if height is None else height)
        for seed, run in enumerate(runs)
        if run.status == "diverged"
    ]


def _finite(*columns: NDArray[Any]) -> list[tuple[float, ...]]:
    """The rows of these columns in which everything is finite."""
    rows = np.column_stack(columns).astype(np.float64)
    return [tuple(row) for row in rows[np.isfinite(rows).all(axis=1)].tolist()]


def _at(run: Run, stops: NDArray[np.float64]) -> NDArray[np.float64]:
    row = np.full(len(stops), np.nan)
    row[np.searchsorted(stops, run.held_out_step)] = run.held_out
    return row


def _running_mean(loss: NDArray[Any], stops: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean of the last `window` finite losses at each stop that the run has reached."""
    finite = loss[: len(loss) if np.isfinite(loss).all() else int(np.isfinite(loss).argmin())].astype(np.float64)
    reached = stops[stops <= len(finite)].astype(int)
    return np.array([finite[max(0, stop - window) : stop].mean() for stop in reached])


def _limits(values: Iterable[Any]) -> tuple[float, float]:
    """The least and the largest finite value above 0; 1 and 1 if there is none."""
    flat = np.concatenate([np.atleast_1d(value).astype(np.float64) for value in values])
    shown = flat[np.isfinite(flat) & (flat > 0.0)]
    return (float(shown.min()), float(shown.max())) if len(shown) else (1.0, 1.0)
