"""What one step of DACBench's SGD environment costs: the other side of `environment.py`, in DACBench's own interpreter.

Run by `environment.py`, with the data in a folder. The last line printed is JSON.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import types
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
warnings.simplefilter("ignore")
RAW, SECONDS, TURNS, BATCH, DECODED = (
    Path(sys.argv[1]),
    float(sys.argv[2]),
    int(sys.argv[3]),
    int(sys.argv[4]),
    "decoded" in sys.argv,
)


class Decoded(torch.utils.data.Dataset):
    """Stands in for `torchvision.datasets.FashionMNIST` where that is missing: pictures decoded and normalised already."""

    classes = tuple(range(10))
    download = None

    def __init__(self, root: object, *, train: bool = True, download: bool = False, transform: object = None) -> None:  # noqa: ARG002
        part = "train" if train else "t10k"
        x = np.frombuffer((RAW / f"{part}-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 1, 28, 28)
        y = np.frombuffer((RAW / f"{part}-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
        self.x, self.y = (torch.from_numpy(x.copy()).float() / 255 - 0.5) / 0.5, torch.from_numpy(y.copy()).long()

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[place], self.y[place]


def vision() -> str:
    """Make sure that there is a torchvision, without which DACBench cannot be imported, and say which."""
    if not DECODED and importlib.util.find_spec("torchvision"):
        # Its compiled part fits one build of PyTorch only, and pictures do not need it: this is all that the rest asks of it.
        for operator in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, operator):
                torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return f"torchvision {importlib.import_module('torchvision').__version__}"
    other, nothing = types.ModuleType("torchvision"), lambda *_: None
    other.datasets = types.SimpleNamespace(FashionMNIST=Decoded, CIFAR10=Decoded)  # type: ignore[attr-defined]
    other.transforms = types.SimpleNamespace(Compose=nothing, ToTensor=nothing, Normalize=nothing)  # type: ignore[attr-defined]
    other.__spec__ = types.SimpleNamespace(name="torchvision")  # type: ignore[assignment]
    sys.modules["torchvision"] = other
    return "a stand-in for torchvision, pictures decoded beforehand"


def perceptron() -> nn.Module:
    """784-32-10, as on the other side."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10), nn.LogSoftmax(1))


def main() -> None:
    """Print how many steps were made per second of the processor, in the fastest turn."""
    with_vision = vision()
    from dacbench.benchmarks.sgd_benchmark import SGDBenchmark, SGDInstance
    from dacbench.envs import SGDEnv

    config = SGDBenchmark().config
    config.update(epoch_mode=False, cutoff=10**9)
    config["instance_set"] = {
        0: SGDInstance(
            model=perceptron,
            optimizer_type="AdamW",
            optimizer_params={},
            dataset_path=str(RAW.parents[1]),
            dataset_name="FashionMNIST",
            batch_size=BATCH,
            fraction_of_dataset=1.0,
            train_validation_ratio=0.8,
            seed=0,
        )
    }
    env, random, fastest = SGDEnv(config), np.random.default_rng(0), 0.0
    env.reset(seed=0)
    env.step(0.001)
    for _ in range(TURNS):
        start, made = time.process_time(), 0
        while time.process_time() - start < SECONDS:
            env.step(float(random.uniform(0.0005, 0.002)))
            made += 1
        fastest = max(fastest, made / (time.process_time() - start))
    start = time.process_time()
    env.reset(seed=1)
    print(
        json.dumps(
            {"steps": fastest, "reset": time.process_time() - start, "version": version("dacbench"), "with": with_vision}
        )
    )


if __name__ == "__main__":
    main()
