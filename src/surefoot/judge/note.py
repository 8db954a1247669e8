"""What a learned policy was measured to be worth, written on its card."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from surefoot.judge import worth
from surefoot.judge.entrants import candidate
from surefoot.policy_file import read, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from surefoot.judge.study import Findings


def write_on(card: Path, outcomes: Sequence[Findings]) -> int:
    """Replace what a policy's card says of its worth by what came of a study; its weights stay as they are.

    Args:
        card: Either of the policy's files.
        outcomes: Of the arenas of the study.

    Returns:
        The number of arenas that are on the card now.

    Raises:
        ValueError: The file is no learned policy, or the study did not judge it with these weights.
    """
    label = candidate(str(card)).label
    rows = [_row(found, label) for found in outcomes if found.rivals and found.ours.get(label)]
    if not rows:
        raise ValueError(f"{card} was not judged there: the study has no runs of {label} (judge it first, by the same command)")
    policy, said = read(card)
    write(card, policy, replace(said, judged=tuple(rows)))
    return len(rows)


def _row(found: Findings, label: str) -> dict[str, str]:
    """Against the best tuned rival: the ratio from its own rate, and from the worst of the starting rates."""
    best, ours = found.best(), worth.ours(found, label)
    ratios = {start: worth.ratio(rows, found.rivals[best][1.0]) for start, rows in ours.items()}
    worst = max(ratios, key=lambda start: ratios[start].mean)
    every = [row for rows in ours.values() for row in rows]
    at_tuned, at_worst = ratios[1.0], ratios[worst]
    return {
        "problem": found.arena.name,
        "against": best.name,
        "ratio": f"{at_tuned.mean:.3f} [{at_tuned.low:.3f}, {at_tuned.high:.3f}]",
        "worst": f"{at_worst.mean:.3f} from {worst:g}",
        "diverged": f"{worth.diverged(every)}/{len(every)}",
    }
