"""Sentences and tables of docs/results.md and of the README, out of the rows and the page of the comparison.

    surefoot contest redraw --out studies/contest
    python docs/contest_tables.py

What stands between `<!-- contest: NAME -->` and `<!-- end -->` is replaced. A test holds both files to what is made here.
"""

from __future__ import annotations

import re
from functools import cached_property
from html import unescape
from math import isfinite
from pathlib import Path
from textwrap import fill

from surefoot import document
from surefoot.contest import charts, page, scatter
from surefoot.contest.outcome import BEST, REGIMES, Outcome
from surefoot.contest.rows import Rows
from surefoot.contest.study import of_folder

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "studies" / "contest"
TOLD = (ROOT / "docs" / "results.md", ROOT / "README.md")
CLAIMED = 90.0
"""Percent of tasks that a claim is about."""
HEADS = ("A", "B", "C, a tenth", "C, tenfold", "D, half", "D, twice", "E")
SPEEDS = ("linear", "cosine", "wsd", "constant", "greedy", "greedy-decay", "networks-gradient", "transformers-greedy")
SPEEDS += ("plateau-smoothed", "schedule-free-warmup", "prodigy", "momo", "line-search")
SPEEDS += ("hypergradient-group-multiplicative", "hypergradient-parameter-multiplicative")


class Results:
    """What there is to tell, by name, out of a folder of rows with its page."""

    def __init__(self, folder: Path = STUDY) -> None:
        study, _ = of_folder(folder)
        self.found = Outcome(study, Rows.read(folder, study.definitions))
        self.html = (folder / "page.html").read_text("utf-8")

    def brief(self, candidate: str, *regimes: str) -> str:
        """A sentence for each of these regimes, or of all, as the page has them."""
        return "\n".join(_item(sentence) for sentence in page.in_brief_of(self.found, candidate, regimes or tuple(REGIMES)))

    def full(self, candidate: str, opponent: str, *regimes: str) -> str:
        """The headlines in full."""
        every = self.found.headlines(candidate, [BEST if opponent == "best" else opponent], regimes)
        return "\n".join(_item(each.sentence) for each in every)

    @cached_property
    def counts(self) -> dict[tuple[str, str, str], tuple[str, str]]:
        """How often equal or better, and the bound, by candidate, opponent and regime, as the page's table has them."""
        rows = self.table("Everybody against everybody")
        return {(row[0], row[1].removeprefix("tuned "), row[2]): (row[3].partition(" ")[0], row[4]) for row in rows}

    def table(self, heading: str) -> list[list[str]]:
        """The cells of a table of the page."""
        part = self.html[self.html.index(f"<h2>{heading}</h2>") :].partition("</section>")[0]
        lines = re.findall(r"<tr>(<td.*?)</tr>", part)
        return [[unescape(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", line)] for line in lines]

    def opponents(self, candidate: str) -> str:
        """Tasks that are equal or better, by opponent and regime; bold where more than 90% is proved."""
        lines = [f"| {candidate} against | {' | '.join(HEADS)} |", "|---|" + "--:|" * len(HEADS)]
        names = [BEST, *(rival.name for rival in self.found.study.rivals if rival.kind != "candidate")]
        for name in names:
            cells = [self.counts[candidate, name, regime.name] for regime in REGIMES.values()]
            shown = [f"**{count}**" if float(bound.rstrip("%")) > CLAIMED else count for count, bound in cells]
            lines.append(f"| {name} | {' | '.join(shown)} |")
        return "\n".join(lines)

    def proved(self, candidate: str) -> str:
        """Against whom more than 90% is proved, by regime."""
        lines = []
        for regime in REGIMES.values():
            named = [
                other
                for (name, other, when), (_, bound) in self.counts.items()
                if (name, when) == (candidate, regime.name) and self.is_baseline(other) and float(bound.rstrip("%")) > CLAIMED
            ]
            lines += [_item(f"{regime.name}: {', '.join(named)}.")] if named else []
        return "\n".join(lines)

    def is_baseline(self, name: str) -> bool:
        """Whether this is an opponent that a claim is about."""
        return name == BEST or any(rival.name == name and rival.kind != "candidate" for rival in self.found.study.rivals)

    def losses(self, candidate: str, opponent: str) -> str:
        """Where a candidate is worse, tuned against tuned, by how much."""
        verdicts = self.found.verdicts(candidate, BEST if opponent == "best" else opponent, "A")
        worse = {name: each.whole.ratio - 1.0 for name, each in verdicts.items() if each.label == "worse"}
        named = [f"{name} by {worse[name]:.1%}" for name in sorted(worse, key=lambda name: -worse[name])]
        return _wrapped(f"{len(worse)} of {len(verdicts)} tasks: {', '.join(named)}.")

    def tasks(self) -> str:
        """The verdict on every task, tuned against tuned, and how far pairs scatter there."""
        columns = [
            self.found.verdicts(*pair, "A") for pair in ((c, o) for c in ("greedy-decay", "greedy") for o in ("cosine", BEST))
        ]
        decay, typical = scatter.deviations(self.found, "greedy-decay"), scatter.typical(self.found)
        heads = ["task"]
        heads += [f"{name} vs {other}" for name in ("greedy-decay", "greedy") for other in ("cosine", "the best")]
        heads += ["deviation, greedy-decay", "deviation, median of rivals"]
        lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
        for task in typical:
            verdicts = [f"{each[task].label} {round(each[task].whole.ratio - 1.0, 3) + 0.0:+.1%}" for each in columns]
            lines.append(f"| {task} | {' | '.join(verdicts)} | {decay[task]:.1%} | {typical[task]:.1%} |")
        return "\n".join(lines)

    def deviations(self) -> str:
        """On how many tasks pairs scatter little enough."""
        names = ("linear", "greedy-decay", "transformers-greedy", "greedy", "networks-gradient", "constant")
        every = {name: scatter.deviations(self.found, name) for name in names}
        typical = scatter.typical(self.found)
        listed = ", ".join(f"{scatter.small(own.values())} for {name}" for name, own in every.items())
        middle = scatter.small(typical.values())
        said = f"Tasks, of {len(typical)}, with a paired deviation below {scatter.ENOUGH:.1%}: {listed}"
        return _wrapped(f"{said}; the median of all rivals is on {middle}.")

    def speed(self) -> str:
        """Steps to the target and areas, of some, as the page's table has them."""
        heads = "| rival | runs that reach the target | score, steps to the target | area, over cosine's |"
        rows = {row[0]: row for row in self.table("Scores")}
        lines = [f"| {name} | {rows[name][5]} | {rows[name][4]} | {rows[name][8]} |" for name in SPEEDS]
        return "\n".join([heads, "|---|--:|--:|--:|", *lines])

    def ends(self, task: str) -> str:
        """The ends of some rivals in one cell of SGD, at the budget and at twice it."""
        (cell,) = [cell for cell in self.found.entries if cell == (task, "sgd")]
        lines = [f"| {task} | tuned rate | end | end at twice the budget |", "|---|--:|--:|--:|"]
        for name in ("polynomial", "constant", "greedy", "cosine", "greedy-decay", "linear"):
            rows = self.found.rows(cell, name, "tuned")
            ends = [charts.mean([getattr(row, at) for row in rows]) for at in ("final", "double")]
            assert all(map(isfinite, ends))
            lines.append(f"| {name} | {self.found.rate(cell, name, 'tuned'):.3g} | {ends[0]:.3f} | {ends[1]:.3f} |")
        return "\n".join(lines)

    @staticmethod
    def wall() -> str:
        """What a step costs, as the page on benchmarks has it."""
        text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
        part = text[text.index("`python benchmarks/line_search.py`") :].partition("\n## ")[0]
        return "\n".join(line for line in part.splitlines() if line.startswith("|"))

    def forwards(self) -> str:
        """Forward passes per step of who searches, in the rows of the comparison."""
        said = [
            f"{row[0]} takes {row[2]} per step in the median over runs, and {row[3]} at most"
            for row in self.table("What a search costs")
        ]
        return f"Forward passes: {'; '.join(said)}; all others take 1."


def _item(sentence: str) -> str:
    return _wrapped(sentence, initial_indent="- ", subsequent_indent="  ")


def _wrapped(sentence: str, **indents: str) -> str:
    return fill(sentence, 136, break_long_words=False, break_on_hyphens=False, **indents)


def filled(text: str, results: Results) -> str:
    """A page with everything in its place."""

    def made(match: re.Match[str]) -> str:
        name, *words = match[1].split()
        return f"<!-- contest: {match[1]} -->\n{getattr(results, name)(*words)}\n<!-- end -->"

    return re.sub(r"<!-- contest: (.*?) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)


if __name__ == "__main__":
    told = Results()
    for path in TOLD:
        document.write(path, filled(path.read_text("utf-8"), told))
