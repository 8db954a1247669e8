"""What was to be reached, one sentence each, and whether it was."""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from surefoot import stats
from surefoot.judge import worth
from surefoot.judge.entrants import Contestant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from surefoot.judge.rows import RunRow
    from surefoot.judge.study import Findings

CLOSE, CLEARLY, SLIGHTLY, HARDLY = 1.10, 0.90, 0.97, 1.03
"""Within 10%; at least 10% better; at least 3% better; at most 3% worse."""


class Claim(NamedTuple):
    """A sentence.

    Attributes:
        policy: Of whom.
        text: What was to be reached, and what was found.
        is_reached: Whether it was.
    """

    policy: str
    text: str
    is_reached: bool


def claims(outcomes: Mapping[str, Findings], label: str) -> list[Claim]:
    """All claims about a candidate that the arenas allow."""
    every = [
        claim
        for found in outcomes.values()
        for claim in (_of_matrices(found, label), _of_networks(found, label), _of_targets(found, label))
    ]
    return [Claim(label, *claim) for claim in [*(one for each in every for one in each), *_on_average(outcomes, label)]]


def _of_matrices(found: Findings, label: str) -> Iterator[tuple[str, bool]]:
    """Those about factorisations."""
    arena = found.arena
    if arena.measure == "held-out":
        return
    ours = worth.ours(found, label)
    if arena.measure == "relative error":
        yield _against(found, label, Contestant("step"), CLEARLY)
        yield _against(found, label, found.best("clipped", "bound"), SLIGHTLY)
    elif found.cells:
        best, tried = worth.best_constant(found), sum(name == "constant" for name, _ in found.cells)
        pairs = {start: worth.values(rows) / best for start, rows in ours.items()}
        every = np.concatenate(list(pairs.values()))
        means = {start: float(np.exp(np.mean(np.log(each)))) for start, each in pairs.items()}
        worst = max(means, key=lambda start: means[start])
        text = (
            f"On {arena.says}: from every start {_range(ours)} the tuned rate, within 10% of the best constant of "
            f"{tried}, chosen per matrix: {_times(means[worst])} of it in the geometric mean at the worst start, {worst:g}; "
            f"{np.sum(every <= CLOSE)}/{len(every)} single runs within 10%."
        )
        yield text, means[worst] <= CLOSE
        with_wsd = worth.ratio(ours[1.0], found.equal[Contestant("wsd")])
        text = (
            f"On {arena.says}: the median at least 10% better than tuned WSD: median {_times(with_wsd.median)}, geometric mean "
            f"{_interval(with_wsd)}, {with_wsd.wins}/{with_wsd.pairs} matrices better."
        )
        yield text, with_wsd.median <= CLEARLY
    else:
        yield _never(f"On {arena.says}", ours)


def _of_networks(found: Findings, label: str) -> Iterator[tuple[str, bool]]:
    """Those about one network."""
    arena = found.arena
    if arena.measure != "held-out" or not found.ours:
        return
    best = found.best()
    ours = worth.ours(found, label)
    ratios = {start: worth.ratio(rows, found.rivals[best][1.0]) for start, rows in ours.items()}
    worst = max(ratios, key=lambda start: ratios[start].mean)
    good = sum(each.mean <= HARDLY for each in ratios.values())
    text = (
        f"On {arena.says}: from every start {_range(ours)} the tuned rate at most 3% worse than the schedule tuned on it, "
        f"{best.name}: {_interval(ratios[worst])} at the worst start, {worst:g}; {good}/{len(ratios)} starts."
    )
    yield text, ratios[worst].mean <= HARDLY
    yield _never(f"On {arena.says}", ours)


def _of_targets(found: Findings, label: str) -> Iterator[tuple[str, bool]]:
    """Those about vision and language: fewer steps to a target, and a better end."""
    if not (found.arena.watches and found.ours):
        return
    cosine, ours = found.rivals[Contestant("cosine")][1.0], worth.ours(found, label)[1.0]
    target = stats.TARGET_MARGIN * float(np.median(worth.values(cosine)))
    mine, theirs = (float(np.median(worth.steps_to(rows, target, found.arena.steps))) for rows in (ours, cosine))
    than = f"{_steps(mine)} against {_steps(theirs)} (medians)"
    yield f"On {found.arena.says}: fewer steps to the target than tuned cosine: {than}.", mine < theirs
    end = worth.ratio(ours, cosine)
    than = f"{_interval(end)}, {end.wins}/{end.pairs} seeds"
    yield f"On {found.arena.says}: a lower held-out loss at the end than tuned cosine: {than}.", end.high < 1.0


def _on_average(outcomes: Mapping[str, Findings], label: str) -> Iterator[tuple[str, bool]]:
    """Those about networks together."""
    held = [found for found in outcomes.values() if found.arena.axis in {"architecture", "data"} and found.own and found.ours]
    if held:
        means = [worth.ratio(worth.ours(found, label)[1.0], found.rivals[found.best()][1.0]).mean for found in held]
        mean = stats.ratio(means, np.ones(len(means)))
        text = (
            f"Over {len(held)} problems of held-out architecture or data: better on average than the schedule tuned on each: "
            f"{_interval(mean)} in the geometric mean, better on {mean.wins}/{mean.pairs} of them."
        )
        yield text, mean.mean < 1.0
    for searched in ("judging", "tuning"):
        found_ones = [found for found in outcomes.values() if found.arena.searches == searched and label in found.ours]
        searches = [each for found in found_ones if (each := worth.search(found, label)) is not None]
        if searches:
            pooled = worth.pooled(searches)
            on = ", ".join(found.arena.name for found in found_ones)
            last = f"{_times(pooled.ratios[-1].mean)} of the best of {pooled.budgets[-1]}"
            yield f"One run is worth a search of {pooled.worth} runs (on {on}); it ends at {last}.", pooled.worth > 1


def _against(found: Findings, label: str, rival: Contestant, least: float) -> tuple[str, bool]:
    limits = worth.limits_of(found, label)
    against = worth.ratio(worth.ours(found, label)[1.0], found.equal[rival])
    how = "no limits" if limits == "plain" else f"rates {limits}"
    text = (
        f"On {found.arena.says}: at least {1 - least:.0%} better than tuned {rival.name}: {_interval(against)} of its error, "
        f"with {how}; {against.wins}/{against.pairs} matrices better."
    )
    return text, against.mean <= least


def _never(where: str, ours: Mapping[float, Sequence[RunRow]]) -> tuple[str, bool]:
    counts = {start: (worth.diverged(rows), worth.failed(rows), len(rows)) for start, rows in ours.items()}
    bad, above, runs = (sum(each) for each in zip(*counts.values(), strict=True))
    listed = ", ".join(f"{one}/{count} from {start:g}" for start, (one, _, count) in counts.items())
    least = stats.clopper_pearson(bad, runs)[1]
    text = f"{where}: no run diverges: {listed} times the tuned rate did (95%: less than {least:.2%} of runs)"
    return f"{text}; {above - bad} more ended above where they began.", bad == 0


def _range(starts: Mapping[float, object]) -> str:
    return f"between {min(starts):g} and {max(starts):g} times"


def _times(value: float) -> str:
    return f"x{value:.3f}"


def _interval(found: stats.Ratio) -> str:
    return f"x{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _steps(value: float) -> str:
    return f"{value:.0f} steps" if isfinite(value) and value < inf else "never"
