"""How many decisions about a learning rate an environment takes in per second, beside DACBench's SGD environment.

Both train the same network, 784-32-10, on Fashion-MNIST with AdamW and batches of 32, on one thread. DACBench needs
packages of its own versions: give it an environment of its own, and hand over its interpreter:

    python -m venv dacbench-env
    dacbench-env/bin/pip install dacbench==0.5.6 torch torchvision
    python benchmarks/environment.py --dacbench dacbench-env/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

from surefoot import data
from surefoot.gym import TrainingEnv, TrainingVectorEnv
from surefoot.networks import Network

if TYPE_CHECKING:
    from surefoot.data import Split

BATCH, TARGET = 32, 200.0
HELD_OUT = 1200
"""As many examples as DACBench evaluates at every step: a tenth of a fifth of 60,000."""


def fashion() -> Split:
    """All pictures to train on, and some to evaluate."""
    split = data.fashion_mnist()
    return split._replace(held_out_x=split.held_out_x[:HELD_OUT], held_out_y=split.held_out_y[:HELD_OUT])


def perceptron() -> nn.Module:
    """784-32-10, as on the other side."""
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def ours(slots: int, seconds: float, turns: int, **settings: Any) -> float:
    """Decisions per second of the processor in the fastest turn; with 0 slots, of a single environment."""
    problem = Network("fashion-mlp", "adamw", 1e-3, 10**9, BATCH, fashion, perceptron)
    settings = {"first": (), "start": (0.5, 2.0), "worst": 1e30, "rise": 1.1, "cut": 1.1} | settings
    env: Any = TrainingVectorEnv(slots, problem, **settings) if slots else TrainingEnv(problem, **settings)
    random, shape, fastest = np.random.default_rng(0), (slots, 1) if slots else (1,), 0.0
    env.reset(seed=0)
    env.step(np.zeros(shape))
    for _ in range(turns):
        start, made = time.process_time(), 0
        while time.process_time() - start < seconds:
            env.step(random.uniform(-1.0, 1.0, shape))
            made += slots or 1
        fastest = max(fastest, made / (time.process_time() - start))
    return fastest


def theirs(python: str, seconds: float, turns: int) -> list[dict[str, Any]]:
    """What `dacbench_side.py` measured, with torchvision and without; nothing, and how to get it, if DACBench is not there."""
    asked = "from importlib.metadata import version; version('dacbench')"
    if subprocess.run([python, "-c", asked], capture_output=True, check=False).returncode:
        print(f"DACBench is not installed for {python}.{__doc__.partition('one thread.')[2]}")
        return []
    split = data.fashion_mnist()
    parts = {"train": (split.train_x, split.train_y), "t10k": (split.held_out_x, split.held_out_y)}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "FashionMNIST", "raw")
        raw.mkdir(parents=True)
        for part, (x, y) in parts.items():
            head = struct.pack(">IIII", 2051, len(x), 28, 28)
            (raw / f"{part}-images-idx3-ubyte").write_bytes(head + _pixels(x).tobytes())
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(y)) + y.astype(np.uint8).tobytes())
        side = Path(__file__).with_name("dacbench_side.py")
        measured = []
        for pictures in ("encoded", "decoded"):
            command = [python, str(side), str(raw), str(seconds), str(turns), str(BATCH), pictures]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"DACBench's side failed:\n{done.stderr}")
            measured.append(json.loads(done.stdout.splitlines()[-1]))
    return measured if measured[0]["with"] != measured[1]["with"] else measured[:1]


def _pixels(x: Any) -> Any:
    """The bytes that the pictures were made of."""
    low, high = x.min(), x.max()
    return np.round(255.0 * (x - low) / (high - low)).astype(np.uint8)


def main() -> int:
    """Print the table; 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dacbench", default=sys.executable, help="the Python that has DACBench")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of the processor in a turn")
    parser.add_argument("--turns", type=int, default=3, help="turns, of which the fastest counts")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not data.fashion_mnist_available():
        sys.exit("Fashion-MNIST is not there: apt-get install dataset-fashion-mnist")
    peers = theirs(given.dacbench, given.seconds, given.turns)
    rows = {
        "1 environment": {"slots": 0},
        "64 slots": {"slots": 64},
        "256 slots": {"slots": 256},
        "1024 slots": {"slots": 1024},
        f"256 slots, {HELD_OUT:,} held-out examples evaluated at every decision": {"slots": 256, "reward": "held-out"},
        "256 slots, 10 optimizer steps per decision": {"slots": 256, "window": 10},
    }
    ratios = " | ".join(f"ratio to {place}" for place in range(1, len(peers) + 1))
    print(f"| environment | decisions per second | {ratios} |\n|{'---|' * (len(peers) + 2)}")
    for place, peer in enumerate(peers, start=1):
        name = f"{place}: DACBench {peer['version']} SGDEnv, batch mode, {peer['with']}"
        print(f"| {name} | {peer['steps']:.1f} |{'  |' * len(peers)}")
    found = []
    for name, settings in rows.items():
        speed = ours(seconds=given.seconds, turns=given.turns, **{"window": 1} | settings)
        found.append([speed / peer["steps"] for peer in peers])
        print(f"| surefoot, {name} | {speed:,.0f} | {' | '.join(f'{ratio:,.0f}' for ratio in found[-1])} |", flush=True)
    if not peers:
        return 0
    print(f"\nTarget: {TARGET:.0f} times 1 with 256 slots and one optimizer step per decision: {found[2][0]:,.0f}.")
    return int(found[2][0] < TARGET)


if __name__ == "__main__":
    sys.exit(main())
