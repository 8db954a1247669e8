"""How fast many trainings go at once, beside a plain loop over `nn.Module` and `torch.optim` in the same run.

    pip install 'surefoot[torch,data]'
    python benchmarks/fleet.py
    python benchmarks/fleet.py --device cuda

A figure is environment steps a second, all runs together; one such step is ten SGD steps with momentum of one run. Loop and
fleet draw the same batches and end each SGD step with its losses. On a CPU all of it keeps to one thread, time is processor
time, and loop and fleet take turns, so that other programs disturb both alike. Beside them stands how much of what the machine
can do in a large matrix product the fleet reaches. Without Fashion-MNIST its rows are timed on random pictures of its shape,
and say so.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from surefoot import data
from surefoot.networks import Network, network
from surefoot.stacked import NetworkFleet, memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.data import Split

SGD_STEPS, TURNS, RATE = 10, 5, 0.05


class Row(NamedTuple):
    """A network, how many runs of it, the ratio to a loop that is asked for (None for information), and multiplications."""

    network: Network
    runs: int
    target: float | None
    products: int


@cache
def pictures() -> Split:
    """Fashion-MNIST at 14 x 14 pixels, or random pictures of that shape."""
    if not data.fashion_mnist_available():
        print("Fashion-MNIST is not on this machine: random pictures of its shape stand in for it.", file=sys.stderr)
        draw = np.random.default_rng(0)
        x, y = draw.random((12_000, 196), np.float32), draw.integers(10, size=12_000)
        return data.Split(x[:10_000], y[:10_000], x[10_000:], y[10_000:])
    whole = data.fashion_mnist()
    train_x, held_out_x = (x.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196) for x in (whole[0], whole[2]))
    return data.Split(train_x, whole.train_y, held_out_x, whole.held_out_y)


def perceptron(inputs: int, hidden: int) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def convolutions() -> nn.Module:
    """8 and 16 filters of 3 x 3, each followed by pooling."""
    first = nn.Unflatten(1, (1, 14, 14)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(144, 10))


class Recurrent(nn.Module):
    """Digits read line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.scores = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """The scores after the last line."""
        scores: Tensor = self.scores(self.memory(x.unflatten(1, (8, 8)))[0][:, -1])
        return scores


def rows(device: str) -> list[Row]:
    """What is measured."""
    small = Network("MLP 64-16-10, digits", "sgd", RATE, 1, 16, data.digits, partial(perceptron, 64, 16))
    large = Network("MLP 196-32-10, Fashion 14x14", "sgd", RATE, 1, 32, pictures, partial(perceptron, 196, 32))
    cnn = Network("CNN 8-16 3x3, Fashion 14x14", "sgd", RATE, 1, 32, pictures, convolutions)
    lstm = Network("LSTM 8-32, digits by line", "sgd", RATE, 1, 32, data.digits, Recurrent)
    per_small, per_large = 16 * (64 * 16 + 160), 32 * (196 * 32 + 320)
    per_cnn, per_lstm = 32 * (196 * 72 + 49 * 1152 + 1440), 32 * (8 * 128 * 40 + 320)
    if device == "cpu":
        targets = {1: None, 16: None, 64: 30.0, 512: 30.0}
        smalls = [Row(small, runs, target, per_small) for runs, target in targets.items()]
        larges = [Row(large, runs, 12.0, per_large) for runs in (64, 256)]
        gpt = Row(network("stdlib-gpt", "sgd", base=RATE), 8, None, 16 * 64 * (2 * 12 * 64 * 64 + 2 * 2 * 64 * 64 + 64 * 97))
        return [*smalls, *larges, *(Row(cnn, runs, 2.5, per_cnn) for runs in (16, 64)), Row(lstm, 64, None, per_lstm), gpt]
    smalls = [Row(small, runs, target, per_small) for runs, target in {64: None, 512: None, 4096: 200.0}.items()]
    cnns = [Row(cnn, runs, target, per_cnn) for runs, target in {64: None, 512: 20.0}.items()]
    return [*smalls, Row(large, 512, None, per_large), *cnns, Row(lstm, 512, None, per_lstm)]


def loop(row: Row, device: str) -> Callable[[], None]:
    """Ten steps of one run, as anyone would write them."""
    run, split = row.network.init(0), row.network.data()
    model, x, y = (
        run.model.to(device),
        torch.from_numpy(split.train_x).to(device),
        torch.from_numpy(split.train_y).long().to(device),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)

    def steps() -> None:
        for _ in range(SGD_STEPS):
            batch = torch.from_numpy(run.batches.draw()).to(device)
            loss = cross_entropy(model(x[batch]).flatten(0, -2), y[batch].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return steps


def fleet(row: Row, **settings: Any) -> Callable[[], None]:
    """Ten steps of all runs."""
    together = NetworkFleet(row.network, **settings)
    runs, rates = together.init(range(row.runs)), np.full(row.runs, RATE)
    rates_there = torch.from_numpy(rates).to(settings["device"]) if settings["device"] != "cpu" else rates

    def steps() -> None:
        for _ in range(SGD_STEPS):
            _, signals = together.step(runs, rates_there)
        float(signals["loss"].sum())

    return steps


def seconds(contenders: dict[str, Callable[[], None]], device: str) -> dict[str, float]:
    """The fastest of several turns of each; each turn takes about a fifth of a second."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    best, counts = dict.fromkeys(contenders, math.inf), {}
    for name, steps in contenders.items():
        for _ in range(2):
            steps()
        began = clock()
        steps()
        counts[name] = max(1, round(0.2 / max(clock() - began, 1e-6)))
    for _ in range(TURNS):
        for name, steps in contenders.items():
            if device != "cpu":
                torch.cuda.synchronize()
            began = clock()
            for _ in range(counts[name]):
                steps()
            if device != "cpu":
                torch.cuda.synchronize()
            best[name] = min(best[name], (clock() - began) / counts[name])
    return best


def product_limit(device: str) -> float:
    """Multiplications and additions a second, in billions, of a large matrix product in float32."""
    size = 1024 if device == "cpu" else 8192
    a = torch.randn(size, size, device=device)
    taken = seconds({"product": lambda: torch.mm(a, a)}, device)["product"]
    return 2 * size**3 / taken / 1e9


def ways(device: str, wanted: list[str]) -> dict[str, dict[str, Any]]:
    """Settings of the fleet by name; the first is the default."""
    every: dict[str, dict[str, Any]] = {
        "default": {},
        "traced": {"engine": "traced"},
        "compiled": {"compile": True},
        "traced, compiled": {"engine": "traced", "compile": True},
        "bfloat16": {"precision": "bfloat16"},
    }
    return {name: {"device": device, **every[name]} for name in every if name == "default" or name in wanted}


def measure(row: Row, device: str, limit: float, wanted: list[str]) -> bool:
    """Time one row, print it, and say whether its target is met."""
    settings = ways(device, wanted)
    taken = seconds({"loop": loop(row, device), **{name: fleet(row, **way) for name, way in settings.items()}}, device)
    order, kept, working = memory.per_run(NetworkFleet(row.network, device=device))
    met = True
    for name in settings:
        rate, ratio = row.runs / taken[name], row.runs * taken["loop"] / taken[name]
        share = 6 * row.products * SGD_STEPS * rate / 1e9 / limit
        goal = "" if row.target is None else f"{row.target:g}"
        label = row.network.name if name == "default" else f"  {name}"
        size = f"{kept / 1024:,.0f} + {working / 1024:,.0f} + {order / 1024:,.0f}"
        print(
            f"| {label} | {row.runs} | {1 / taken['loop']:,.0f} | {rate:,.0f} | {ratio:.1f} | {goal} | {share:.0%} | {size} |",
            flush=True,
        )
        met &= name != "default" or row.target is None or ratio >= row.target
    return met


def main() -> None:
    """Measure, print, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--ways", default="", help="other settings to time: traced, compiled, bfloat16; a plus between")
    parser.add_argument("--only", default="", help="only rows whose name begins like this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    limit = product_limit(given.device)
    print(f"PyTorch {torch.__version__}, {given.device}, a large float32 product: {limit:,.0f} GFLOP/s\n")
    columns = (
        "network",
        "runs",
        "loop, steps/s",
        "fleet, steps/s",
        "ratio",
        "target",
        "of a large product",
        "KiB a run: kept + working + order",
    )
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    chosen = [row for row in rows(given.device) if row.network.name.startswith(given.only)]
    met = [measure(row, given.device, limit, given.ways.split("+")) for row in chosen]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
