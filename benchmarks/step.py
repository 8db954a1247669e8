"""What one step of a schedule costs, beside its peers in the same run.

    pip install 'surefoot[torch,peers]'
    python benchmarks/step.py

Every contender is fed the same falling, noisy loss, in turns, several times over; the figure of each is its fastest turn, and
ratios are to PyTorch's ReduceLROnPlateau of the same number of groups. Exits with 1 if surefoot costs more than it should.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from surefoot.torch import GreedyLR

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS, TURNS = 12_000, 20
BASELINE = "torch ReduceLROnPlateau"
ALLOWED = {1: 1.0, 100: 0.5}
"""The largest allowed ratio to the baseline, by number of parameter groups."""


def contenders() -> dict[str, Callable[[Any], Any]]:
    """What makes each scheduler, by name."""
    made: dict[str, Callable[[Any], Any]] = {
        BASELINE: ReduceLROnPlateau,
        "surefoot GreedyLR, window 1": lambda optimizer: GreedyLR(optimizer, window=1),
        "surefoot GreedyLR, window 50": lambda optimizer: GreedyLR(optimizer, window=50),
        "surefoot GreedyLR, window 5000": lambda optimizer: GreedyLR(optimizer, window=5000),
        "surefoot GreedyLR, window 50, stages 5": lambda optimizer: GreedyLR(
            optimizer, window=50, raise_stage=5, cut_stage=5, reset_after=500
        ),
        "surefoot GreedyLR, evidence, window 50": lambda optimizer: GreedyLR(optimizer, window=50, evidence=4.0),
        "surefoot GreedyLR, evidence, window 5000": lambda optimizer: GreedyLR(optimizer, window=5000, evidence=4.0),
    }
    try:
        from transformers.optimization import GreedyLR as Theirs
    except ImportError:
        print("transformers is not installed, so its GreedyLR is left out: pip install 'surefoot[peers]'", file=sys.stderr)
        return made
    made["transformers GreedyLR"] = Theirs
    made["transformers GreedyLR, window 50"] = lambda optimizer: Theirs(optimizer, smooth=True, window_size=50)
    return made


def seconds(scheduler: Any, losses: list[float]) -> float:
    """How long a scheduler takes for all the losses."""
    step, began = scheduler.step, time.perf_counter()
    for loss in losses:
        step(loss)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, and say whether the targets are met."""
    noise = random.Random(0)  # noqa: S311 - noise, not a secret
    losses = [2.0 + 3.0 * math.exp(-step / 2000.0) + noise.gauss(0.0, 0.05) for step in range(STEPS)]
    rows, is_met = [], True
    for groups, allowed in ALLOWED.items():
        fastest = dict.fromkeys(contenders(), math.inf)
        for _ in range(TURNS):
            for name, make in contenders().items():
                parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)]
                fastest[name] = min(fastest[name], seconds(make(torch.optim.SGD(parameters, lr=0.1)), losses))
        for name, best in fastest.items():
            ratio = best / fastest[BASELINE]
            rows.append({"groups": groups, "scheduler": name, "us": round(best / STEPS * 1e6, 2), "ratio": round(ratio, 2)})
            is_met &= not name.startswith("surefoot") or ratio <= allowed
    print(f"{'groups':>6}  {'us a step':>9}  {'ratio':>5}  scheduler")
    for row in rows:
        print(f"{row['groups']:>6}  {row['us']:>9.2f}  {row['ratio']:>5.2f}  {row['scheduler']}")
    print(json.dumps({"torch": torch.__version__, "python": sys.version.split()[0], "rows": rows}))
    sys.exit(not is_met)


if __name__ == "__main__":
    main()
