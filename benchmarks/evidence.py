"""What each way of judging improvement makes of a noisy loss that falls, and of noise alone.

    pip install 'surefoot[torch]'
    python benchmarks/evidence.py

Falling: the loss 2 + 3 exp(-t / 2000) + N(0, s), 10,000 steps, 20 seeds; means per run of the raises and cuts, the share of the
raises among the moves in each quarter of the run, and the step of the first cut. Noise: N(2, 0.2) alone, 10,000 steps, 200
seeds; the share of the runs in which the rate was ever raised, and ever cut. Exits with 1 if the recommended setting errs on
noise in more than 5% of the runs, or does not raise while the loss falls.
"""

from __future__ import annotations

import math
import sys
from random import Random
from typing import TYPE_CHECKING

from surefoot import Greedy
from surefoot.runner import runner

if TYPE_CHECKING:
    from collections.abc import Iterable

STEPS, FALLING_SEEDS, NOISE_SEEDS, SPREADS = 10_000, 20, 200, (0.01, 0.05, 0.2)
ALLOWED = 0.05
RECOMMENDED = Greedy(window=200, evidence=4.5)
CONTENDERS = {
    "best ever, window 1": Greedy(window=1),
    "best ever, window 50": Greedy(window=50),
    "best ever, window 200": Greedy(window=200),
    "evidence 3, window 50": Greedy(window=50, evidence=3.0),
    "evidence 4.5, window 50": Greedy(window=50, evidence=4.5),
    "evidence 4, window 200": Greedy(window=200, evidence=4.0),
    "evidence 4.5, window 200": RECOMMENDED,
    "evidence 4.5, window 500": Greedy(window=500, evidence=4.5),
}


def moves(policy: Greedy, losses: Iterable[float]) -> tuple[list[int], list[int]]:
    """The steps at which a policy would raise, and those at which it would cut, were there no limits."""
    free = Greedy(window=policy.window, evidence=policy.evidence, min_scale=1e-300, max_scale=1e300)
    driver, scale = runner(free), 1.0
    raises, cuts = [], []
    for step, loss in enumerate(losses):
        before, scale = scale, driver.advance(loss)
        if scale != before:
            (raises if scale > before else cuts).append(step)
    return raises, cuts


def falling(policy: Greedy, spread: float) -> tuple[float, float, list[str], float]:
    """Raises, cuts, the share of raises among the moves of each quarter, and the first cut: means over seeds."""
    runs = []
    for seed in range(FALLING_SEEDS):
        noise = Random(seed)  # noqa: S311 - noise, not a secret
        runs.append(moves(policy, [2.0 + 3.0 * math.exp(-t / 2000.0) + noise.gauss(0.0, spread) for t in range(STEPS)]))
    quarters = []
    for quarter in range(4):
        up, down = (sum(step * 4 // STEPS == quarter for run in runs for step in run[kind]) for kind in (0, 1))
        quarters.append(f"{up / (up + down):.0%}" if up + down else "-")
    first = sum(cuts[0] if cuts else STEPS for _, cuts in runs) / FALLING_SEEDS
    return sum(len(r) for r, _ in runs) / FALLING_SEEDS, sum(len(c) for _, c in runs) / FALLING_SEEDS, quarters, first


def false_moves(policy: Greedy) -> tuple[float, float]:
    """The shares of runs on noise alone in which the rate was ever raised, and ever cut."""
    ever = []
    for seed in range(NOISE_SEEDS):
        noise = Random(seed)  # noqa: S311 - noise, not a secret
        ever.append(moves(policy, (noise.gauss(2.0, 0.2) for _ in range(STEPS))))
    return sum(bool(r) for r, _ in ever) / NOISE_SEEDS, sum(bool(c) for _, c in ever) / NOISE_SEEDS


def main() -> None:
    """Measure, print, and say whether the targets are met."""
    is_met = True
    columns = ("judged by", "raised on noise", "cut on noise", "s", "raises", "cuts", "raises by quarter", "first cut")
    print("|", " | ".join(columns), "|")
    print("|---|---|---|---|---|---|---|---|")
    for name, policy in CONTENDERS.items():
        raised, cut = false_moves(policy)
        is_met &= policy != RECOMMENDED or max(raised, cut) <= ALLOWED
        for spread in SPREADS:
            up, down, quarters, first = falling(policy, spread)
            is_met &= policy != RECOMMENDED or (up > 0.0 and first > STEPS / 20)
            row = (name, f"{raised:.1%}", f"{cut:.1%}", spread, f"{up:.0f}", f"{down:.0f}", " ".join(quarters), f"{first:.0f}")
            print("|", " | ".join(map(str, row)), "|", flush=True)
    sys.exit(not is_met)


if __name__ == "__main__":
    main()
