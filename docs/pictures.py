"""The policies' pictures, drawn from the policies themselves whenever the documentation is built."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import surefoot
from surefoot import (
    Clip,
    Constant,
    Cosine,
    CosineRestarts,
    Every,
    Exponential,
    Greedy,
    Hypergradient,
    InverseTime,
    Learned,
    Linear,
    OneCycle,
    Plateau,
    Polynomial,
    Step,
    Then,
    Warmup,
    WarmupStableDecay,
    schedule,
)
from surefoot.combine import WrapState
from surefoot.features import Features
from surefoot.hold_all import HoldAll
from surefoot.perceptron import Perceptron
from surefoot.pictures import policy_picture
from surefoot.policy_file import Card, shipped, write
from surefoot.torch import GreedyLR, find_rate
from surefoot.vega import LIGHT, converter, svg, table, theme

if TYPE_CHECKING:
    from surefoot.drawing import Drawing
    from surefoot.greedy import GreedyState

STEPS, STALL, SPIKE = 600, 200, 330
WIDTH, HEIGHT = 560, 200

OF_TIME: dict[str, dict[str, Any]] = {
    "constant": {"Constant()": Constant(), "Constant(0.3)": Constant(0.3)},
    "step": {"Step(milestones=(300, 450))": Step(milestones=(300, 450))},
    "exponential": {"Exponential(0.99)": Exponential(0.99), "Exponential(0.995)": Exponential(0.995)},
    "linear": {"Linear(600)": Linear(600), "Linear(400, end=0.2)": Linear(400, end=0.2)},
    "cosine": {"Cosine(600)": Cosine(600), "Cosine(400, end=0.2)": Cosine(400, end=0.2)},
    "cosine-restarts": {"CosineRestarts(200)": CosineRestarts(200), "growth=2": CosineRestarts(86, growth=2, end=0.1)},
    "polynomial": {f"power={power}": Polynomial(600, power=power) for power in (0.5, 1.0, 2.0, 4.0)},
    "inverse-time": {f"InverseTime(60, power={power})": InverseTime(60, power=power) for power in (0.5, 0.75, 1.0)},
    "one-cycle": {"OneCycle(600)": OneCycle(600)},
    "warmup-stable-decay": {"WarmupStableDecay(600)": WarmupStableDecay(600)},
    "warmup": {"Warmup(Cosine(540), 60)": Warmup(Cosine(540), 60), "Cosine(600)": Cosine(600)},
}
"""By page, policies that do not look at the loss."""


STAGED = Greedy(patience=2, window=10, cut_stage=4, raise_stage=12)
"""What all four readings of the stages have in common; the page about them says it in words."""


@dataclass(frozen=True)
class Crossed:
    """Cooldown and warmup swapped: a stage of `warmup` steps after a cut, and one of `cooldown` steps after a raise."""

    cooldown: int
    warmup: int

    def init(self) -> GreedyState:
        """The state before any loss."""
        return STAGED.init()

    def update(self, state: GreedyState, loss: Any, **_signals: Any) -> GreedyState:
        """The state after a step."""
        return replace(STAGED, stage="hold", cut_stage=self.warmup, raise_stage=self.cooldown).update(state, loss)


STAGES: dict[str, Any] = {
    "A, continue": replace(STAGED, stage="continue"),
    "B, hold the same": replace(STAGED, stage="hold"),
    "C, hold all": HoldAll(
        min_rates=(STAGED.min_scale,),
        max_rates=(STAGED.max_scale,),
        patience=STAGED.patience,
        threshold_mode="relative",
        cut_stage=STAGED.cut_stage,
        raise_stage=STAGED.raise_stage,
        smooth=True,
        window=STAGED.window,
        reset_after=None,
    ),
    "D, crossed": Crossed(cooldown=STAGED.cut_stage, warmup=STAGED.raise_stage),
}
"""The four readings of cooldown and warmup."""


def alignments(seed: int = 0) -> list[float]:
    """A made-up alignment with noise: steps agree at first, are at odds with each other, turn back, and agree again."""
    noise = Random(seed)  # noqa: S311 - noise, not secrets
    spells = [0.4] * 100 + [0.0] * 200 + [-0.5] * 60 + [0.2] * (STEPS - 360)
    return [spell + noise.gauss(0.0, 0.15) for spell in spells]


@dataclass(frozen=True)
class Fed:
    """A policy that is told the made-up alignment."""

    policy: Any
    alignments: tuple[float, ...] = tuple(alignments())

    def init(self) -> WrapState:
        """The policy's first state."""
        inner = self.policy.init()
        return WrapState(inner.scale, 0, inner)

    def update(self, state: WrapState, loss: Any, **_signals: Any) -> WrapState:
        """The policy's next state."""
        inner = self.policy.update(state.inner, loss, alignment=self.alignments[state.step])
        return WrapState(inner.scale, state.step + 1, inner)


_greedy = Greedy(factor=0.9, patience=5)
OF_LOSS: dict[str, dict[str, Any]] = {
    "greedy": {"Greedy()": Greedy(), "Greedy(window=1)": Greedy(window=1)},
    "plateau": {"Plateau(factor=0.5, patience=30)": Plateau(factor=0.5, patience=30)},
    "hypergradient": {
        "Hypergradient()": Fed(Hypergradient()),
        'Hypergradient(rule="additive")': Fed(Hypergradient(rule="additive")),
    },
    "clip": {"greedy": _greedy, "Clip(greedy, 0.5, 1.5)": Clip(_greedy, 0.5, 1.5)},
    "every": {"Plateau(0.5, 10)": Plateau(0.5, 10), "Every(Plateau(0.5, 2), 20)": Every(Plateau(0.5, 2), 20)},
    "then": {"Then(greedy, Linear(200), 400, carry=True)": Then(Greedy(), Linear(200), 400, carry=True)},
}
"""By page, policies that do."""


def learned(folder: Path) -> dict[str, Any]:
    """The learned policies that come along and see losses alone; if there are none, one by hand, put into the folder."""
    made = {f'Learned("{name}")': Learned(name, STEPS) for name in shipped()}
    seeing = {label: policy for label, policy in made.items() if not policy.signals}
    return seeing or {"by hand": Learned(by_hand(folder), STEPS)}


def by_hand(folder: Path) -> str:
    """The path of a policy that raises the rate while the loss falls, and lowers it while it rises."""
    sees = Features(window=10)
    weights = np.float32([[-0.15 * (name == "trend") for name in sees.names]])
    card = Card(
        name="by-hand",
        description="Raise the rate while the loss falls.",
        window=sees.window,
        tier=sees.tier,
        bound=sees.bound,
        inputs=sees.names,
        layers=(len(sees.names), 1),
        schedule={"is": "WarmupStableDecay", "warmup": 0.0, "decay": 0.3},
        first=(1, 2),
        rise=1.1,
        cut=1.3,
        alarm=8.0,
        rescue=4.0,
    )
    write(folder / card.name, Perceptron(((weights, np.zeros(1, np.float32)),)), card)
    return str(folder / card.name)


def losses(seed: int = 0) -> list[float]:
    """A made-up loss with noise: it falls, stalls, spikes and falls again."""
    noise = Random(seed)  # noqa: S311 - noise, not secrets
    return [_trend(step) * exp(noise.gauss(0.0, 0.04)) for step in range(STEPS)]


def _trend(step: int) -> float:
    falling = 0.6 + 1.8 * exp(-min(step, STALL) / 60)
    spike = 1.5 * exp(-(step - SPIKE) / 15) if step >= SPIKE else 0.0
    again = 0.4 * (1.0 - exp(-max(step - SPIKE - 30, 0) / 80))
    return falling + spike - again


def fed_picture(name: str, values: list[float]) -> str:
    """What policies are fed against the step, as SVG on white."""
    points = [{"step": step, name: value} for step, value in enumerate(values)]
    axis = {"title": "optimizer step", "grid": False, "tickCount": 6}
    x = {"field": "step", "type": "quantitative", "scale": {"domain": [0, STEPS], "nice": False}, "axis": axis}
    specification = {
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 1.2, "color": "#7a7a7a"},
        "encoding": {"x": x, "y": {"field": name, "type": "quantitative", "axis": {"title": name, "format": ".1f"}}},
        "width": WIDTH,
        "height": HEIGHT // 2,
        "padding": 8,
        "config": {**theme(), "background": "white"},
    }
    svg: str = converter().vegalite_to_svg(specification)
    return svg


def watched() -> Drawing:
    """What `scheduler.plot()` shows of Greedy on the made-up loss."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    scheduler = GreedyLR(optimizer)
    logging.getLogger("surefoot").setLevel(logging.WARNING)  # Sphinx would print every change.
    for loss in losses():
        optimizer.step()
        scheduler.step(loss)
    return scheduler.plot()


def tested() -> Drawing:
    """What `find_rate(...).plot()` shows of a small network, four noisy examples at a time."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = torch.randn(150, 4, 8)
    noise = torch.randn(150, 4, 1)
    pairs = list(zip(batches, batches.sum(dim=2, keepdim=True) + noise, strict=True))
    return find_rate(model, optimizer, pairs, lambda model, pair: (model(pair[0]) - pair[1]).square().mean()).plot()


GALLERY: dict[str, str] = {
    "constant": "Constant(0.5)",
    "step": "Step(milestones=(300, 450), factor=0.3)",
    "exponential": "Exponential(0.995)",
    "linear": "Linear(600)",
    "cosine": "Cosine(600)",
    "cosine-restarts": "CosineRestarts(200)",
    "polynomial": "Polynomial(600, power=2.0)",
    "inverse-time": "InverseTime(60)",
    "one-cycle": "OneCycle(600)",
    "warmup-stable-decay": "WarmupStableDecay(600)",
    "warmup": "Warmup(Cosine(540), 60)",
    "greedy": "Greedy()",
    "greedy-evidence": "Greedy(window=50, evidence=4.5)",
    "plateau": "Plateau(factor=0.5, patience=30)",
    "learned": 'Learned("networks-loss", 600)',
    "hypergradient": "Hypergradient()",
    "clip": "Clip(Greedy(), 0.7, 1.5)",
    "every": "Every(Plateau(factor=0.5, patience=2), 20)",
    "then": "Then(Greedy(), Linear(360), 240, carry=True)",
}
"""What the gallery shows, by the name of the picture: the code that its page shows, too."""


def small_picture(code: str, met: list[float] | None) -> str:
    """A policy's scale, small and with little around it, and behind it the loss that it met; as SVG on white."""
    policy = eval(code, {name: getattr(surefoot, name) for name in surefoot.__all__})  # noqa: S307 - A line from above.
    made = Fed(policy) if isinstance(policy, Hypergradient) else policy
    scales = [float(state.scale) for state in schedule(made, (met or [1.0] * STEPS)[: STEPS - 1])]
    rows = list(enumerate(scales))
    shown = {"title": None, "grid": False, "labelFontSize": 10}
    x = {"field": "step", "type": "quantitative", "axis": {**shown, "values": [0, STEPS // 2, STEPS]}}
    x["scale"] = {"domain": [0, STEPS], "nice": False}
    y = {"type": "quantitative", "axis": {**shown, "tickCount": 3, "format": ",.2~r"}}
    y["scale"] = {"domain": [0, 1.12 * max(scales)], "nice": False}
    line = {
        "data": table(["step", "scale"], rows, numbers=["step", "scale"]),
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "color": LIGHT[0] if met else LIGHT[1]},
        "encoding": {"x": x, "y": {"field": "scale", **y}},
    }
    behind = {
        "data": table(["step", "loss"], list(enumerate(met or [])), numbers=["step", "loss"]),
        "mark": {"type": "line", "strokeWidth": 1, "color": "#d5d8dc"},
        "encoding": {"x": x, "y": {"field": "loss", "type": "quantitative", "axis": None, "scale": {"zero": True}}},
    }
    layers = [behind, line] if met else [line]
    return svg({"layer": layers, "resolve": {"scale": {"y": "independent"}}, "width": 220, "height": 96})


def draw_gallery(folder: Path) -> None:
    """Write the small pictures into a folder."""
    of_time = {*OF_TIME}
    for name, code in GALLERY.items():
        met = None if name in of_time else alignments() if name == "hypergradient" else losses()
        _put(folder / f"small-{name}.svg", small_picture(code, met))


def draw(folder: Path) -> None:
    """Write one picture per policy into a folder, and the loss that the loss-driven ones are fed."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {page: policy_picture(policies, STEPS, width=WIDTH, height=HEIGHT) for page, policies in OF_TIME.items()}
    for page, policies in OF_LOSS.items():
        drawn[page] = policy_picture(policies, STEPS, losses(), width=WIDTH, height=HEIGHT)
    with TemporaryDirectory() as made:
        drawn["learned"] = policy_picture(learned(Path(made)), STEPS, losses(), width=WIDTH, height=HEIGHT)
    drawn["stages"] = policy_picture(STAGES, STEPS, losses(), width=WIDTH, height=HEIGHT, log=True)
    drawn["loss"] = fed_picture("loss", losses())
    drawn["alignment"] = fed_picture("alignment", alignments())
    drawn["watching"], drawn["find-rate"] = svg(watched().spec), svg(tested().spec)
    for page, picture in drawn.items():
        _put(folder / f"{page}.svg", picture)
    draw_gallery(folder)


def _put(file: Path, picture: str) -> None:
    """Write a picture if it is another than the one that is there: Sphinx reads pages again whose pictures were touched."""
    if not file.exists() or file.read_text("utf-8") != picture:
        file.write_text(picture, "utf-8")
