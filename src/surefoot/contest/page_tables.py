"""The tables of a comparison's page, and the pieces of HTML that they are made of."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from surefoot.contest import charts, progress, scatter
from surefoot.contest.outcome import BEST
from surefoot.contest.pairs import differences
from surefoot.contest.profiles import improvement, interquartile_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.contest.outcome import Losses, Outcome
    from surefoot.contest.rows import CellName


def everybody(found: Outcome) -> str:
    """Counts of every candidate against every rival."""
    heads = ["candidate", "opponent", "regime", "equal or better", "bound", "better", "equal", "inconclusive", "worse"]
    rivals = [rival.name for rival in found.study.rivals]
    rows = [
        [
            each.candidate,
            each.opponent,
            each.regime,
            f"{each.hits}/{each.tasks} = {each.share:.0%}",
            each.lower,
            *map(str, (each.better, each.equal, each.inconclusive, each.worse)),
        ]
        for rival in found.study.rivals
        if rival.kind == "candidate"
        for each in found.headlines(rival.name, [BEST, *(name for name in rivals if name != rival.name)])
    ]
    return table("Everybody against everybody", heads, rows, classes="wide sortable")


def scores(found: Outcome) -> str:
    """Scores of every rival, and how it does against tuned cosine."""
    heads = [
        "rival",
        "cells",
        "score, A",
        "score, B",
        "score, steps to the target",
        "runs that reach it",
        "against cosine, A: IQM of ratios",
        "probability of improvement",
        "area, over cosine's",
        "what it is",
    ]
    every = {measure: charts.scores(found, measure) for measure in charts.MEASURES}
    cosine, around = found.losses("cosine", "tuned"), progress.areas(found, "cosine")
    rows = []
    for rival in found.study.rivals:
        losses = found.losses(rival.name, "tuned")
        cells = [cell for cell in losses if cell in cosine]
        if rival.name not in every["A"] or not cells:
            continue
        pair = [np.array([each[cell] for cell in cells]) for each in (losses, cosine)]
        middle, chance = interquartile_mean(differences(*pair)), improvement(*pair)
        iqm = " to ".join(f"{np.exp(value):.3f}" for value in (middle.low, middle.high))
        shown = [f"{own[rival.name][1]:.3f}" if rival.name in own else "" for own in every.values()]
        rows.append(
            [
                rival.name,
                str(every["A"][rival.name][0]),
                *shown,
                _reached(progress.steps_to_target(found, rival.name)),
                f"{np.exp(middle.value):.3f} ({iqm})",
                f"{chance.value:.0%} ({chance.low:.0%} to {chance.high:.0%})",
                _over(progress.areas(found, rival.name), around),
                rival.says,
            ]
        )
    return table("Scores", heads, sorted(rows, key=lambda row: row[2], reverse=True), classes="wide sortable")


def pairs(found: Outcome) -> str:
    """How far pairs scatter: of the candidates, and of all rivals in the middle."""
    typical = scatter.typical(found)
    names = [rival.name for rival in found.study.rivals if rival.kind == "candidate"]
    every = {name: scatter.deviations(found, name) for name in names}
    every = {name: own for name, own in every.items() if own}
    if not typical or not every:
        return ""
    heads = ["task", *every, "all rivals, median"]
    columns = [*every.values(), typical]
    rows = [[task, *(f"{own[task]:.2%}" if task in own else "" for own in columns)] for task in typical]
    small = [f"{name} on {scatter.small(own.values())}" for name, own in every.items()]
    said = (
        f"Log ratios to tuned cosine, both tuned, have a paired standard deviation over seeds below {scatter.ENOUGH:.1%} on so "
        f"many of {len(typical)} tasks: {', '.join(small)}, and the median of all rivals on {scatter.small(typical.values())}."
    )
    return table("How far pairs scatter", heads, rows, classes="wide sortable", before=f"<p>{escape(said)}</p>")


def costs(found: Outcome) -> str:
    """What searching costs: forward passes per step of those that take more than one."""
    heads = ["rival", "cells", "forward passes per step, median", "most"]
    rows = []
    for rival in found.study.rivals:
        every = [row.forwards for cell in found.entries for row in found.rows(cell, rival.name, "tuned")]
        if every and max(every) > 1.0:
            cells = len(found.losses(rival.name, "tuned"))
            rows.append([rival.name, str(cells), f"{np.median(every):.2f}", f"{max(every):.1f}"])
    return table("What a search costs", heads, rows)


def cells(found: Outcome) -> str:
    """Every rival in every cell, to sort and to filter."""
    heads = [
        "task",
        "optimizer",
        "rival",
        "tuned rate",
        "end, tuned",
        "sd",
        "end, default",
        "end, rate / 10",
        "end, rate x 10",
        "steps to the target, tuned",
        "area, tuned",
        "diverged",
    ]
    soon = {rival.name: progress.steps_to_target(found, rival.name) for rival in found.study.rivals}
    areas = {rival.name: progress.areas(found, rival.name) for rival in found.study.rivals}
    rows = []
    for cell, entries in found.entries.items():
        for name, entry in entries.items():
            ends = {how: found.rows(cell, name, how) for how in ("tuned", "default", "low", "high")}
            if not ends["tuned"]:
                continue
            losses = {how: np.array([row.final for row in each]) for how, each in ends.items()}
            rate = "found" if entry.rival.finds else f"{found.rate(cell, name, 'tuned'):.3g}"
            logs = np.log(np.maximum(losses["tuned"], 1e-12))
            deviation = f"{logs.std(ddof=1):.1%}" if np.isfinite(logs).all() else ""
            diverged = sum(int((~np.isfinite(each)).sum()) for each in losses.values())
            values = [charts.mean(losses[how]) for how in ("tuned", "default", "low", "high")]
            shown = [f"{value:.4g}" for value in values]
            way = [_steps(soon[name], cell), f"{charts.mean(areas[name][cell]):.4g}" if cell in areas[name] else ""]
            rows.append([cell.task, cell.optimizer, name, rate, shown[0], deviation, *shown[1:], *way, str(diverged)])
    return table("Every cell", heads, rows, classes="wide sortable")


def sorting() -> str:
    """The script that lets tables be sorted and filtered."""
    return f"<script>{files('surefoot.contest').joinpath('sorting.js').read_text('utf-8')}</script>"


def table(heading: str, heads: Sequence[str], rows: Sequence[Sequence[str]], classes: str = "wide", before: str = "") -> str:
    """A section of a folded table; nothing where there are no rows."""
    if not rows:
        return ""
    # Columns of words stand to the left, of numbers to the right.
    cells = [
        '<td class="words">' if all(cell[:1].isalpha() for cell in column) else "<td>" for column in zip(*rows, strict=True)
    ]
    head = "".join(f'<th scope="col"{opened[3:-1]}>{escape(text)}</th>' for opened, text in zip(cells, heads, strict=True))
    lines = "\n".join(
        "<tr>" + "".join(f"{opened}{escape(cell)}</td>" for opened, cell in zip(cells, row, strict=True)) + "</tr>"
        for row in rows
    )
    made = f'<table class="{classes}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>'
    count = f"{len(rows):,} row{'s' * (len(rows) != 1)}"
    return section(heading, f"{before}<details><summary>{count}</summary>\n{made}\n</details>")


def section(heading: str, body: str) -> str:
    """A section of the page."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"


def _reached(steps: Losses) -> str:
    """The share of runs that reach the target."""
    return f"{np.mean([np.isfinite(each).mean() for each in steps.values()]):.0%}" if steps else ""


def _over(ours: Losses, theirs: Losses) -> str:
    """The geometric mean of ratios of geometric means, over cells."""
    ratios = [charts.mean(ours[cell]) / charts.mean(theirs[cell]) for cell in ours if cell in theirs]
    return f"{charts.mean(ratios):.3f}" if ratios else ""


def _steps(steps: Losses, cell: CellName) -> str:
    """The median over seeds; more than any budget where half of them miss the target."""
    if cell not in steps:
        return ""
    median = float(np.median(steps[cell]))
    return f"{median:.0f}" if np.isfinite(median) else "missed"
