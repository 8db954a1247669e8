"""The page of a judgement, and the tables."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from surefoot import document, stats, tables
from surefoot.judge import figures, worth
from surefoot.judge.claims import claims

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.table import Table

    from surefoot.judge.claims import Claim
    from surefoot.judge.entrants import Candidate
    from surefoot.judge.study import Outcome

TITLE = "What a learned schedule is worth on problems never seen"
READING = {
    "Ratio": "What counts at the end over what a rival came to from the same seed: below 1 is better. Its mean is geometric, "
    "its 95% interval a bootstrap over seeds.",
    "Counts": "For factorisations the relative loss |V - WH|\u00b2 / |V|\u00b2 of all rows to train on, with a noisy "
    "oracle its root; for networks the mean of the last three of 20 held-out losses.",
    "Failed": "A run that ended above where it began; it counts with what it was before training. It diverged if it ended at "
    "more than twice that, or with a loss that is not finite.",
    "Tuned": "The rate with the lowest geometric mean from seeds of tuning, from a grid that is extended while the best is at "
    "its edge; a rate at which a run failed is out. Of a policy judged under several limits, those that did best there.",
    "Search": "Six schedules at six rates, on matrices a factor of 2 apart, on networks half a decade: 36 runs; on the slowest "
    "networks fewer. The expected best of n drawn at random is computed from all of them. On a factorisation each is made on "
    "the judged matrix and the best is known; on a network each is one run, the best is chosen by its held-out loss, and "
    "counts as what the same settings come to from other seeds.",
}
_CAPTIONS = {
    "sensitivity": (
        "Set wrong",
        "What runs come to by the rate they start from, over the best tuned rival's at its own rate. Crosses: some failed.",
    ),
    "searches": (
        "One run against a search",
        "Below 1, one run of the policy is better than the expected best of so many runs.",
    ),
    "shapes": (
        "What was learned",
        "Rates by part of the budget, in units of the tuned rate: medians and quartiles over runs. Dashed: the classical.",
    ),
    "duels": ("Rival by rival", "From the tuned rate: geometric mean and its interval as a point, median as a stroke."),
}


def render(outcomes: Sequence[Outcome], candidates: Sequence[Candidate], *, command: str) -> str:
    """An HTML document with everything in it.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    labels = [who.label for who in candidates]
    specs = {name: getattr(figures, name)(outcomes, labels) for name in _CAPTIONS}
    specs = {name: spec for name, spec in specs.items() if spec["vconcat"]}
    sections = [_claims(outcomes, labels)]
    sections += [_figure(number, *_CAPTIONS[name]) for number, name in enumerate(specs)]
    sections += [_table(*each) for each in (_ratios(outcomes, labels), _costs(outcomes, candidates), _rates(outcomes))]
    sections.append(_losses(outcomes, labels))
    judged = ", ".join(labels)
    where = ", ".join(found.arena.name for found in outcomes)
    return document.render(
        title=TITLE,
        command=command,
        notes=[f"Judged: {judged}. Arenas: {where}."],
        sections=sections,
        reading=READING,
        specs=list(specs.values()),
    )


def write(path: Path, outcomes: Sequence[Outcome], candidates: Sequence[Candidate], *, command: str) -> Path:
    """Write the page, all of it or nothing, and return its path.

    Raises:
        ImportError: vl-convert-python is not installed.
        OSError: The file cannot be written.
    """
    return document.write(path, render(outcomes, candidates, command=command))


def all_claims(outcomes: Sequence[Outcome], labels: Sequence[str]) -> list[Claim]:
    """Every claim about every candidate."""
    by_name = {found.arena.name: found for found in outcomes}
    return [claim for label in labels for claim in claims(by_name, label)]


def as_table(found: Sequence[Claim]) -> Table:
    """The claims for a terminal."""
    table = tables.plain("policy", "reached", "claim")
    for claim in found:
        table.add_row(claim.policy, "yes" if claim.is_reached else "NO", claim.text)
    reached = sum(claim.is_reached for claim in found)
    table.caption = f"{reached}/{len(found)} reached."
    return table


def as_json(outcomes: Sequence[Outcome], labels: Sequence[str]) -> dict[str, Any]:
    """Claims and ratios for JSON."""
    said = [
        {"policy": claim.policy, "claim": claim.text, "is_reached": claim.is_reached} for claim in all_claims(outcomes, labels)
    ]
    ratios = [
        {
            "policy": label,
            "arena": found.arena.name,
            "rival": rival,
            "tuned": tuned,
            **ratio._asdict(),
            "verdict": ratio.verdict,
        }
        for found, label, rival, tuned, ratio in _every(outcomes, labels)
    ]
    return {"claims": said, "ratios": ratios}


def _every(outcomes: Sequence[Outcome], labels: Sequence[str]) -> Iterator[tuple[Outcome, str, str, str, stats.Ratio]]:
    """Each candidate against each rival, from the tuned rate."""
    for found in outcomes:
        for label in labels:
            ours = worth.ours(found, label)[1.0]
            for rival, rows in found.equal.items():
                yield found, label, rival.name, "as known", worth.ratio(ours, rows)
            for rival, by_start in found.rivals.items() if found.own else ():
                yield found, label, rival.name, "here", worth.ratio(ours, by_start[1.0])


def _claims(outcomes: Sequence[Outcome], labels: Sequence[str]) -> str:
    found = all_claims(outcomes, labels)
    rows = [
        f"<tr{'' if claim.is_reached else ' class=unmet'}><th scope='row'>{escape(claim.text)}</th>"
        f"<td>{escape(claim.policy)}</td><td>{'reached' if claim.is_reached else 'missed'}</td></tr>"
        for claim in found
    ]
    reached = sum(claim.is_reached for claim in found)
    return _section(f"What was to be reached: {reached}/{len(found)}", _rows(["claim", "policy", ""], rows))


def _ratios(outcomes: Sequence[Outcome], labels: Sequence[str]) -> tuple[str, list[str], list[list[str]]]:
    heads = ["arena", "policy", "rival", "rate tuned", "ratio", "95%", "median", "wins", "95%", ""]
    rows = []
    for found, label, rival, tuned, ratio in _every(outcomes, labels):
        _, low, high = ratio.win_rate
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
        wins = f"{ratio.wins}/{ratio.pairs - ratio.ties}"
        figures_ = [f"{ratio.mean:.3f}", interval, f"{ratio.median:.3f}", wins, f"{low:.0%} to {high:.0%}", ratio.verdict]
        rows.append([found.arena.name, label, rival, tuned, *figures_])
    return "Every rival", heads, rows


def _costs(outcomes: Sequence[Outcome], candidates: Sequence[Candidate]) -> tuple[str, list[str], list[list[str]]]:
    """What learning cost, in jobs of an arena's size, and after how many jobs it has paid for itself."""
    heads = [
        "policy",
        "arena",
        "learned in, jobs of this size",
        *(f"pays against {runs} runs after" for runs in (8, 36)),
        "worth",
    ]
    rows = []
    for who in candidates:
        steps = float(who.training.get("transitions", 0)) * float(who.training.get("window", 0))
        for found in outcomes:
            search = worth.search(found, who.label)
            if search is None:
                continue
            jobs = steps / found.arena.steps
            pays = [f"{jobs / (runs - 1):,.0f} jobs" if jobs else "at once" for runs in (8, 36)]
            rows.append([who.label, found.arena.name, f"{jobs:,.0f}" if jobs else "nothing", *pays, f"{search.worth} runs"])
    return "What it costs", heads, rows


def _rates(outcomes: Sequence[Outcome]) -> tuple[str, list[str], list[list[str]]]:
    """Tuned rates and what they came to."""
    heads = ["arena", "rival", "rate, as known", "rate, tuned here", "runs of tuning", "end, median", "failed"]
    rows = []
    for found in outcomes:
        for rival, by_start in found.rivals.items():
            end = by_start[1.0]
            own = f"{found.own[rival].rate:g}" if found.own else ""
            middle = f"{float(sorted(worth.values(end))[len(end) // 2]):.4g}"
            known = found.general[rival]
            failed = f"{worth.failed(end)}/{len(end)}"
            rows.append([found.arena.name, rival.name, f"{known.rate:g}", own, f"{found.tuned[rival].runs}", middle, failed])
    return "Rates", heads, rows


def _losses(outcomes: Sequence[Outcome], labels: Sequence[str]) -> str:
    """Where the judged policy loses, by name."""
    lost: dict[tuple[str, str], list[str]] = {}
    for found, label, rival, tuned, ratio in _every(outcomes, labels):
        if ratio.low > 1.0 and ratio.mean > 1.0 + stats.SAME:
            here = " tuned here" if tuned == "here" else ""
            lost.setdefault((label, found.arena.name), []).append(f"{rival}{here} by {ratio.mean - 1:.1%}")
    lines = [
        f"<li>{escape(label)} on {escape(where)}: to {escape('; '.join(whom))}.</li>" for (label, where), whom in lost.items()
    ]
    return _section("Where it loses", f"<ul>{''.join(lines)}</ul>" if lines else "<p>Nowhere.</p>")


def _figure(number: int, heading: str, caption: str) -> str:
    return _section(
        heading,
        f'<p class="quiet">{escape(caption)}</p>\n<figure id="figure-{number}" aria-label="{escape(heading)}"></figure>',
    )


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"


def _table(heading: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    table = f"<details><summary>{len(rows)} rows</summary>\n{_rows(heads, lines)}\n</details>"
    return _section(heading, table) if rows else ""


def _rows(heads: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return f'<table class="wide">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody>\n</table>'
