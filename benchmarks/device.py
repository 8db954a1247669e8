"""What a schedule driven by the loss of every step costs a small network on a GPU.

    pip install 'surefoot[torch]'
    python benchmarks/device.py

Trains the same network with AdamW in turns: at a constant rate, with GreedyLR kept on the device, and with GreedyLR that reads
`float(loss)` at every step; the first two eagerly and in one CUDA graph. Prints the time of a step, its ratio to reading, and
how often a step waited for the device, as PyTorch's profiler counts it.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from surefoot.torch import GreedyLR

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS, TURNS, WIDTH, BATCH = 300, 5, 256, 256
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def training(kind: str) -> Callable[[], None]:
    """One step of a training, ready to be called again and again."""
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 1)).cuda()
    x = torch.randn(BATCH, WIDTH, device="cuda")
    y = x[:, :1].sin()
    rate = torch.tensor(1e-3, device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, capturable=True)
    scheduler = None if "constant" in kind else GreedyLR(optimizer, on_device="device" in kind)

    def step() -> None:
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step(loss)

    return captured(step) if "graph" in kind else step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The same step as a CUDA graph, after a few warm-up steps on a side stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def seconds(step: Callable[[], None]) -> float:
    """The time of a step."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / STEPS


def waits(step: Callable[[], None], steps: int = 20) -> float:
    """How often a step waits for the device."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            step()
    events = {event.key: event.count for event in profiler.key_averages()}
    return sum(events.get(name, 0) for name in WAITS) / steps


def main() -> None:
    """Measure and print."""
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA device, and there is none.")
    kinds = ["constant", "device", "read", "constant, graph", "device, graph"]
    steps = {kind: training(kind) for kind in kinds}
    for step in steps.values():
        seconds(step)
    fastest = {kind: min(seconds(step) for _ in range(TURNS)) for kind, step in steps.items()}
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    print("| schedule | us a step | ratio to reading | waits a step |")
    print("|---|---|---|---|")
    for kind, step in steps.items():
        print(f"| {kind} | {fastest[kind] * 1e6:.0f} | {fastest[kind] / fastest['read']:.2f} | {waits(step):.1f} |")


if __name__ == "__main__":
    main()
