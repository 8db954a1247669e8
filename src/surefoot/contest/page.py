"""The page of a comparison."""

from __future__ import annotations

from html import escape
from math import isfinite
from typing import TYPE_CHECKING

from surefoot import document
from surefoot.contest import charts, page_tables
from surefoot.contest.headlines import in_brief
from surefoot.contest.outcome import BEST, REGIMES
from surefoot.contest.page_tables import section

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from surefoot.contest.headlines import Headline
    from surefoot.contest.outcome import Outcome
    from surefoot.vega import Spec

TITLE = "Which learning-rate schedule?"
FIRST = ("greedy-decay", "greedy", "networks-gradient")
"""Candidates that the page begins with."""
OPPONENTS = (BEST, "cosine")
"""Whom it begins with."""
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
    "Bound": "The lower 95% bound of the share of tasks by Clopper and Pearson, as if tasks were drawn at random. More than "
    "90% of tasks is proved where it is above 90%.",
    "The best baseline of each cell": "Whoever is no candidate and was best there from the seeds of tuning, at the tuned rate.",
    "Profile": "On which share of the cells that it takes part in a rival is within a ratio of the best one there.",
    "Score": "The area under the profile from ratio 1 to 4, of its largest: 1 is the best everywhere.",
    "Target": "1.02 times the median end of tuned cosine in the cell. What counts is when an evaluation, one after each "
    "twentieth of the budget, is there first: medians over seeds. A run that misses it counts as infinite.",
    "Area": "Under the held-out losses from the first evaluation to the last, over the steps between: a mean loss on the way.",
    "Probability of improvement": "How probably a run of the candidate ends below one of the opponent on some task.",
}
_CAPTIONS = {
    "profiles": (
        "Performance profiles",
        "Higher is better. The best of a cell is 0.1% above the best, for the logarithm's sake. Grey: all others.",
    ),
    "heat": ("Every rival on every task", "How far its end is behind the best rival's, geometric means over seeds. Dark: far."),
    "schedules": (
        "What schedules do",
        "Learning rates of tuned rivals, medians over seeds; one task of each field. Grey: step.",
    ),
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
        spec, part = _losses(found, candidate, len(specs))
        specs += [spec] if spec else []
        sections.append(part)
    tables = (page_tables.everybody, page_tables.scores, page_tables.pairs, page_tables.costs, page_tables.cells)
    sections += [*(table(found) for table in tables), page_tables.sorting()]
    plan, cells, runs = found.study.plan, len(found.entries), sum(map(len, found.there.values()))
    size = (
        f"{len(found.study.tasks)} tasks, {cells} cells of task and optimizer, {len(found.study.rivals)} rivals, {runs:,} runs"
    )
    seeds = f"compared on {len(plan.test)} seeds, tuned on {len(plan.tuning)} others"
    notes = [f"{size}; {seeds}.", *_timed(found), *(f"Skipped {sentence}" for sentence in lacking)]
    return document.render(title=TITLE, command=command, notes=notes, sections=sections, reading=READING, specs=specs)


def _timed(found: Outcome) -> list[str]:
    """How much processor time the runs took, of those that say so."""
    seconds = [row.seconds for rows in found.there.values() for row in rows.values() if isfinite(row.seconds)]
    return [f"{len(seconds):,} of the runs are timed: {sum(seconds) / 3600.0:.3g} core-hours."] if seconds else []


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
    """One short sentence for each regime, about the first candidate; the others, and all in full, are folded beneath."""
    parts: list[str] = []
    for candidate in _candidates(found):
        says = next(rival.says for rival in found.study.rivals if rival.name == candidate)
        about, brief = f"{candidate}: {says}", _list(in_brief_of(found, candidate), "brief")
        full = _list(each.sentence for opponent in OPPONENTS for each in found.headlines(candidate, [opponent]))
        if parts:
            parts.append(f"<details><summary>{escape(about)}</summary>\n{brief}\n{full}\n</details>")
        else:
            parts.append(f"<h3>{escape(about)}</h3>\n{brief}\n<details><summary>In full</summary>\n{full}\n</details>")
    return section("What came of it", "\n".join(parts))


def in_brief_of(found: Outcome, candidate: str, regimes: Iterable[str] = REGIMES) -> list[str]:
    """One short sentence for each regime, about a candidate."""
    every = [found.headlines(candidate, OPPONENTS, [regime]) for regime in regimes]
    return [in_brief(some) for some in every if some]


def _list(sentences: Iterable[str], kind: str = "full") -> str:
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{kind}">{lines}</ul>'


def _losses(found: Outcome, candidate: str, number: int) -> tuple[Spec | None, str]:
    """Where a candidate loses to the best baseline, tuned against tuned, by name and drawn."""
    worse = {name: each for name, each in found.verdicts(candidate, BEST, "A").items() if each.label == "worse"}
    heading = f"Where {candidate} loses, tuned against tuned"
    if not worse:
        return None, section(heading, f"<p>Nowhere to {escape(BEST)}.</p>")
    names = sorted(worse, key=lambda name: -worse[name].whole.ratio)
    lines = "".join(
        f"<li>{escape(name)}: {worse[name].whole.ratio - 1:.1%} behind {escape(_opponents(found, name))}</li>" for name in names
    )
    figure = f'<figure id="figure-{number}" aria-label="{escape(heading)}"></figure>'
    details = "<details open>" if candidate == _candidates(found)[0] else "<details>"  # All of them are many on a phone.
    body = f"<ul>{lines}</ul>\n{details}<summary>Their losses on the way</summary>\n{figure}\n</details>"
    return charts.lost(found, candidate, BEST, names), section(heading, body)


def _opponents(found: Outcome, task: str) -> str:
    return ", ".join(f"{name} ({cell.optimizer})" for cell, name in found.best.items() if cell.task == task)


def _figure(number: int, heading: str, caption: str) -> str:
    return section(
        heading,
        f'<p class="quiet">{escape(caption)}</p>\n<figure id="figure-{number}" aria-label="{escape(heading)}"></figure>',
    )
