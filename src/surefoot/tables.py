"""Figures as tables for a terminal, and as JSON."""

from __future__ import annotations

from dataclasses import asdict, fields
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from surefoot.stats import Cell, Summary


def of_cell(cell: Cell) -> Table:
    """What became of every policy in a cell, the best first."""
    seeds = len(next(iter(cell.runs.values())))
    table = plain("policy", "held-out loss", "±", f"vs {cell.reference}", "steps to target", "diverged")
    ranks = "" if cell.ranks == 1 else f"{cell.ranks} ranks, "
    about = f"{cell.problem}, {cell.optimizer}, base rate {cell.base:g}, {cell.steps} steps"
    table.title = f"{about}, {ranks}{seeds} seeds, untuned"
    table.caption = (
        f"Final loss: mean of the last 3 evaluations. Target: {cell.target:#.4g}, 1.02 x the median {cell.reference}."
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in cell.summaries:
        table.add_row(row.policy, *_figures(row))
    return table


def _figures(row: Summary) -> list[str]:
    final = f"{row.final:#.4g}" if isfinite(row.final) else "-"
    spread = f"{row.spread:#.2g}" if isfinite(row.spread) else "-"
    versus = f"{row.versus:+.1%}" if isfinite(row.versus) else "-"
    steps = f"{row.steps_to_target:.0f}" if isfinite(row.steps_to_target) else "missed"
    return [final, spread, versus, steps, f"{row.diverged} of {row.runs}" if row.diverged else "-"]


def as_json(cell: Cell) -> dict[str, Any]:
    """The same figures for JSON, unrounded."""
    rows = [{name: _finite(value) for name, value in asdict(summary).items()} for summary in cell.summaries]
    names = ("problem", "optimizer", "base", "steps", "ranks", "reference")
    return {**{name: getattr(cell, name) for name in names}, "target": _finite(cell.target), "policies": rows}


def _finite(value: Any) -> Any:
    """JSON has no infinity: what is not finite is null."""
    return None if isinstance(value, float) and not isfinite(value) else value


def plain(*columns: str) -> Table:
    """A table without rows."""
    table = Table(*columns, title_justify="left", caption_justify="left", title_style="bold")
    table.columns[0].no_wrap = True
    return table


def settings(policy: Any) -> str:
    """The settings that a policy's class does not have by default."""
    defaults = {field.name: field.default for field in fields(policy)}
    return ", ".join(f"{name}={value}" for name, value in vars(policy).items() if value != defaults[name])
