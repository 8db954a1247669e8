"""The page of a comparison."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from surefoot import document
from surefoot.contest import charts
from surefoot.contest.outcome import BEST
from surefoot.contest.pairs import differences
from surefoot.contest.profiles import improvement, interquartile_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from surefoot.contest.headlines import Headline
    from surefoot.contest.outcome import Outcome
    from surefoot.vega import Spec

TITLE = "Which learning-rate schedule?"
FIRST = ("greedy-decay", "greedy", "networks-gradient")
"""Candidates that the page begins with."""
READING = {
    "Regimes": "A: every rival at the rate that was tuned for it. B: everybody at the optimizer's default rate. C: at a tenth "
    "of the tuned rate, and at ten times it. D: tuned and planned for a budget, and stopped at half of it, or trained for "
    "twice as long. E: the candidate at the default rate against opponents at their tuned one.",
    "Tuned": "The best of seven rates half a decade apart by three seeds that nothing is compared on; the grid is extended "
    "while the best is at an edge. A rate at which a run diverged ranks last.",
    "Counts": "The held-out loss at the end, mean of the last three of twenty evaluations. No checkpoint is picked.",
    "Better, equal, worse": "By log ratios of runs from the same seed, averaged over a task's optimizers, and one-sided 95% "
    "bounds of a bootstrap over seeds: better below 1, equal below 1.01, worse above 1. Whatever is none of these is "
    "inconclusive, and does not count as equal.",
    "Bound": "The lower 95% bound of the share of tasks by Clopper and Pearson, as if tasks were drawn at random.",
    "Profile": "On which share of the cells that it takes part in a rival is within a ratio of the best one there.",
    "Probability of improvement": "How probably a run of the candidate ends below one of the opponent on some task.",
}
_CAPTIONS = {
    "profiles": (
        "Performance profiles",
        "Higher is better. The best of a cell is 0.1% above the best, for the logarithm's sake.",
    ),
    "heat": ("Every rival on every task", "End over the best rival's end, geometric means over seeds. Dark: far behind."),
    "schedules": ("What schedules do", "Learning rates of tuned rivals, medians over seeds; one task of each field."),
    "histories": (
        "Loss histories",
        "Held-out losses of tuned rivals, medians over seeds: GreedyLR, a constant rate, hypergradient descent, line search.",
    ),
}


def render(found: Outcome, *, lacking: Sequence[str], command: str) -> str:
    """An HTML document with everything in it.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    specs = [getattr(charts, name)(found) for name in _CAPTIONS]
    sections = [_first(found), *(_figure(number, *caption) for number, caption in enumerate(_CAPTIONS.values()))]
    for candidate in _candidates(found):
        spec, section = _losses(found, candidate, len(specs))
        specs += [spec] if spec else []
        sections.append(section)
    sections += [_every(found), _summary(found), _costs(found), _raw(found)]
    plan, cells, runs = found.study.plan, len(found.entries), sum(map(len, found.there.values()))
    size = (
        f"{len(found.study.tasks)} tasks, {cells} cells of task and optimizer, {len(found.study.rivals)} rivals, {runs:,} runs"
    )
    seeds = f"compared on {len(plan.test)} seeds, tuned on {len(plan.tuning)} others"
    notes = [f"{size}; {seeds}.", *(f"Skipped {sentence}" for sentence in lacking)]
    return document.render(title=TITLE, command=command, notes=notes, sections=sections, reading=READING, specs=specs)


def write(path: Path, found: Outcome, *, lacking: Sequence[str] = (), command: str) -> Path:
    """Write the page, all of it or nothing, and return its path.

    Raises:
        ImportError: vl-convert-python is not installed.
        OSError: The file cannot be written.
    """
    return document.write(path, render(found, lacking=lacking, command=command))


def headlines(found: Outcome) -> list[Headline]:
    """One for every regime and each of the first candidates, against the best baseline."""
    return [each for candidate in _candidates(found) for each in found.headlines(candidate, [BEST])]


def _candidates(found: Outcome) -> list[str]:
    names = {rival.name for rival in found.study.rivals}
    return [name for name in FIRST if name in names]


def _first(found: Outcome) -> str:
    """One sentence for each regime: every candidate against the best baseline, and beneath against tuned cosine."""
    parts = []
    for candidate in _candidates(found):
        says = next(rival.says for rival in found.study.rivals if rival.name == candidate)
        parts.append(f"<h3>{escape(candidate)}: {escape(says)}</h3>\n{_sentences(found, candidate, BEST)}")
        parts.append(f"<details><summary>Against cosine</summary>\n{_sentences(found, candidate, 'cosine')}\n</details>")
    return _section("What came of it", "\n".join(parts))


def _sentences(found: Outcome, candidate: str, opponent: str) -> str:
    lines = "".join(f"<li>{escape(each.sentence)}</li>" for each in found.headlines(candidate, [opponent]))
    return f"<ul>{lines}</ul>"


def _losses(found: Outcome, candidate: str, number: int) -> tuple[Spec | None, str]:
    """Where a candidate loses to the best baseline, tuned against tuned, by name and drawn."""
    worse = {name: each for name, each in found.verdicts(candidate, BEST, "A").items() if each.label == "worse"}
    heading = f"Where {candidate} loses, tuned against tuned"
    if not worse:
        return None, _section(heading, f"<p>Nowhere to {escape(BEST)}.</p>")
    names = sorted(worse, key=lambda name: -worse[name].whole.ratio)
    lines = "".join(
        f"<li>{escape(name)}: {worse[name].whole.ratio - 1:.1%} behind {escape(_opponents(found, name))}</li>" for name in names
    )
    figure = f'<figure id="figure-{number}" aria-label="{escape(heading)}"></figure>'
    body = f"<ul>{lines}</ul>\n<details open><summary>Their losses on the way</summary>\n{figure}\n</details>"
    return charts.lost(found, candidate, BEST, names), _section(heading, body)


def _opponents(found: Outcome, task: str) -> str:
    return ", ".join(f"{name} ({cell.optimizer})" for cell, name in found.best.items() if cell.task == task)


def _every(found: Outcome) -> str:
    """Counts of every candidate against every rival."""
    heads = ["candidate", "opponent", "regime", "equal or better", "bound", "better", "equal", "inconclusive", "worse"]
    rivals = [rival.name for rival in found.study.rivals]
    rows = [
        [
            each.candidate,
            each.opponent,
            each.regime,
            f"{each.hits}/{each.tasks} = {each.share:.0%}",
            f"{each.bound:.1%}",
            *map(str, (each.better, each.equal, each.inconclusive, each.worse)),
        ]
        for rival in found.study.rivals
        if rival.kind == "candidate"
        for each in found.headlines(rival.name, [BEST, *(name for name in rivals if name != rival.name)])
    ]
    return _table("Everybody against everybody", heads, rows)


def _summary(found: Outcome) -> str:
    """Scores of every rival, and how it does against tuned cosine."""
    heads = [
        "rival",
        "what it is",
        "cells",
        "score, A",
        "score, B",
        "against cosine, A: IQM of ratios",
        "probability of improvement",
    ]
    ours, theirs = charts.scores(found, "A"), charts.scores(found, "B")
    cosine = found.losses("cosine", "tuned")
    rows = []
    for rival in found.study.rivals:
        losses = found.losses(rival.name, "tuned")
        cells = [cell for cell in losses if cell in cosine]
        if rival.name not in ours or not cells:
            continue
        pair = [np.array([each[cell] for cell in cells]) for each in (losses, cosine)]
        middle, chance = interquartile_mean(differences(*pair)), improvement(*pair)
        iqm = " to ".join(f"{np.exp(value):.3f}" for value in (middle.low, middle.high))
        count, score = ours[rival.name]
        rows.append(
            [
                rival.name,
                rival.says,
                str(count),
                f"{score:.3f}",
                f"{theirs[rival.name][1]:.3f}" if rival.name in theirs else "",
                f"{np.exp(middle.value):.3f} ({iqm})",
                f"{chance.value:.0%} ({chance.low:.0%} to {chance.high:.0%})",
            ]
        )
    return _table("Scores", heads, sorted(rows, key=lambda row: row[3], reverse=True))


def _costs(found: Outcome) -> str:
    """What searching costs: forward passes per step of those that take more than one."""
    heads = ["rival", "cells", "forward passes per step, median", "most"]
    rows = []
    for rival in found.study.rivals:
        every = [row.forwards for cell in found.entries for row in found.rows(cell, rival.name, "tuned")]
        if every and max(every) > 1.0:
            cells = len(found.losses(rival.name, "tuned"))
            rows.append([rival.name, str(cells), f"{np.median(every):.2f}", f"{max(every):.1f}"])
    return _table("What a search costs", heads, rows)


def _raw(found: Outcome) -> str:
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
        "diverged",
    ]
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
            rows.append([cell.task, cell.optimizer, name, rate, shown[0], deviation, *shown[1:], str(diverged)])
    table = _table("Every cell", heads, rows, classes="wide sortable")
    script = files("surefoot.contest").joinpath("sorting.js").read_text("utf-8")
    return f"{table}\n<script>{script}</script>"


def _figure(number: int, heading: str, caption: str) -> str:
    return _section(
        heading,
        f'<p class="quiet">{escape(caption)}</p>\n<figure id="figure-{number}" aria-label="{escape(heading)}"></figure>',
    )


def _table(heading: str, heads: Sequence[str], rows: Sequence[Sequence[str]], classes: str = "wide") -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f'<table class="{classes}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>'
    return _section(heading, f"<details><summary>{len(rows):,} rows</summary>\n{table}\n</details>")


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"
