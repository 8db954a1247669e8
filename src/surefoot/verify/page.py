"""The page and the tables of a verification: what was claimed, what was found, and where it fails."""

from __future__ import annotations

from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any

from surefoot import document, tables
from surefoot.nmf.verification.catapult import CATAPULT
from surefoot.nmf.verification.rule import CLAIMS
from surefoot.verify.pictures import drawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from rich.table import Table

    from surefoot.verify.run import Verdict

TITLE = "Stability bounds of the factorisation, checked"
HEADINGS = {
    "tightness": "How tight the edges are",
    "noise": "Cliff and plateau",
    "catapult": "Above the edge at the start",
}
_LONG, _LONGEST = 100.0, 1e6  # Between them all digits are shown.
READING = {
    "Failure": "Without noise, a step at which the loss rose by more than 1e-9 of itself, beyond what rounding the stored "
    "factors explains. One noisy step fails if the mean change of the loss is above 0 by five standard errors. A long run "
    "fails if it diverges: its loss is not finite, or grows tenfold (with noise: and beyond what is proved of the mean); or if "
    "it collapses: WH ends below 2% of the matrix. An edge whose largest stable multiple is sought fails where it is below 1.",
    "Failing": "Problems with a failure.",
    "Worst": "The largest change of the loss in a step as a fraction of it; for one noisy step the mean change in standard "
    "errors; for long runs the highest loss over that at the start; for largest stable multiples, the largest.",
    "Point": "At a bar or a cell to read its numbers.",
}


def render(verdicts: Sequence[Verdict], *, command: str) -> str:
    """An HTML document with everything in it: it loads nothing, and works offline.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    pictures = drawn(verdicts)
    texts = captions(verdicts)
    figures = [_figure(number, HEADINGS[name], texts[name]) for number, name in enumerate(pictures)]
    return document.render(
        title=TITLE,
        command=command,
        notes=[summary(verdicts)],
        sections=[_overview(verdicts), *figures, _tables(verdicts)],
        reading=READING,
        specs=list(pictures.values()),
    )


def write(path: str | Path, verdicts: Sequence[Verdict], *, command: str) -> Path:
    """Write the page, all of it or nothing, and return its path.

    Raises:
        ImportError: vl-convert-python is not installed.
        OSError: The file cannot be written.
    """
    return document.write(path, render(verdicts, command=command))


def summary(verdicts: Sequence[Verdict]) -> str:
    """What came of it all, in a few sentences."""
    problems, checked = max(verdict.problems for verdict in verdicts), sum(verdict.steps for verdict in verdicts)
    unmet = [verdict.rule.name for verdict in verdicts if not verdict.is_met]
    end = f"NOT met: {', '.join(unmet)}." if unmet else "Every expectation is met."
    return f"{problems:,} random problems, {len(verdicts)} rules, {checked:,} steps and runs. {end}"


def captions(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """What each picture shows, in words and figures."""
    by_name = {verdict.rule.name: verdict for verdict in verdicts}
    set_alone, clipped, joint = (by_name[name] for name in ("as-set", "as-set-and-clipped", "catapult"))
    fates = joint.columns["fate"] if joint.problems else []
    climbed = sum(fate == CATAPULT for fate in fates)
    return {
        "tightness": "The largest multiple of each edge at which a run of 60 sweeps stayed stable: it ended below the loss at "
        "its start, and not at 0. Where it is below 1, the edge is no promise.",
        "noise": "Long runs with noise of fixed size on every gradient, at rates from a tenth to a hundred times the edge at "
        f"the start. As they were set, {set_alone.failing:,} of {set_alone.problems:,} failed: even rates below the edge at "
        f"the start may, since the curvature grows. With cap and clip {clipped.failing:,} of {clipped.problems:,} did.",
        "catapult": "Joint projected descent at a constant rate. Above the edge some runs climb first and then find a flatter "
        f"place, a catapult, here {climbed:,} of {joint.problems:,}: staying below an edge is sufficient, but not necessary.",
    }


def as_table(verdicts: Sequence[Verdict]) -> Table:
    """The same for a terminal."""
    table = tables.plain("rule", "claim", "problems", "failing", "failures", "of", "worst", "met")
    for verdict in verdicts:
        table.add_row(verdict.rule.name, verdict.rule.claim, *_figures(verdict))
    for column in table.columns[2:7]:
        column.justify = "right"
    table.caption = summary(verdicts)
    return table


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict for JSON, with null for a worst that is not finite."""
    names = ("problems", "steps", "failures", "failing", "collapsed", "rounding", "is_met")
    worst = verdict.worst if isfinite(verdict.worst) else None
    head = {"rule": verdict.rule.name, "claim": verdict.rule.claim, "expected": verdict.rule.expects}
    return {**head, **{name: getattr(verdict, name) for name in names}, "worst": worst}


def as_markdown(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The same as lines of a page of documentation, one table for each claim."""
    for claim, text in CLAIMS.items():
        yield f"**{text}.**\n"
        yield "| rule | what is done | problems | failing | failures | of | worst |\n|---|---|--:|--:|--:|--:|--:|"
        for verdict in verdicts:
            if verdict.rule.claim == claim:
                yield f"| `{verdict.rule.name}` | {verdict.rule.says} | {' | '.join(_figures(verdict)[:-1])} |"
        yield ""


def _figures(verdict: Verdict) -> list[str]:
    collapsed = f" ({verdict.collapsed:,} collapsed)" if verdict.collapsed else ""
    counts = [f"{verdict.problems:,}", f"{verdict.failing:,}", f"{verdict.failures:,}{collapsed}", f"{verdict.steps:,}"]
    return [*counts, _short(verdict.worst), "yes" if verdict.is_met else "NO"]


def _short(value: float) -> str:
    """Two digits or whole, with signs as wide as a plus.

    >>> _short(0.0123), _short(1234.5), _short(float("inf"))
    ('0.012', '1,234', '∞')
    """
    if not isfinite(value):
        return "\N{INFINITY}"
    text = f"{value:,.0f}" if _LONG <= abs(value) < _LONGEST else f"{value:.2g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _figure(number: int, heading: str, caption: str) -> str:
    return f"""<section>
<h2>{escape(heading)}</h2>
<p class="quiet">{escape(caption)}</p>
<figure id="figure-{number}" aria-label="{escape(heading)}"></figure>
</section>"""


def _overview(verdicts: Sequence[Verdict]) -> str:
    """One row for each claim."""
    heads = ["claim", "rules", "problems", "failures", "of"]
    rows = []
    for claim, text in CLAIMS.items():
        mine = [verdict for verdict in verdicts if verdict.rule.claim == claim]
        counts = [sum(verdict.failures for verdict in mine), sum(verdict.steps for verdict in mine)]
        figures = [len(mine), max(verdict.problems for verdict in mine), *counts]
        cells = "".join(f"<td>{figure:,}</td>" for figure in figures)
        unmet = "" if all(verdict.is_met for verdict in mine) else " class=unmet"
        rows.append(f'<tr{unmet}><th scope="row">{escape(text)}</th>{cells}</tr>')
    return f"<section>\n{_table(heads, rows)}\n</section>"


def _tables(verdicts: Sequence[Verdict]) -> str:
    heads = ["rule", "problems", "failing", "failures", "of", "worst", "met"]
    return f"<section>\n<h2>Every rule</h2>\n{_table(heads, _rows(verdicts))}\n</section>"


def _table(heads: Sequence[str], rows: Iterable[str]) -> str:
    head, body = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads), "\n".join(rows)
    return f'<table class="wide">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'


def _rows(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for claim, text in CLAIMS.items():
        mine = [verdict for verdict in verdicts if verdict.rule.claim == claim]
        yield f'<tr class="claim"><th scope="rowgroup" colspan="7">{escape(text)}</th></tr>'
        for verdict in mine:
            cells = "".join(f"<td>{escape(figure)}</td>" for figure in _figures(verdict))
            name = f'{escape(verdict.rule.name)}<span class="quiet">{escape(verdict.rule.says)}</span>'
            yield f'<tr{"" if verdict.is_met else " class=unmet"}><th scope="row">{name}</th>{cells}</tr>'
