"""The public names as a user would write them, read by mypy in strict mode and run by the tests."""

from typing import NamedTuple

import torch

from surefoot import Clip, Cosine, Every, Greedy, Linear, Policy, Step, Then, Warmup, schedule
from surefoot.torch import GreedyLR, PolicyLR
from surefoot.transformers import get_greedy_schedule


class HalvingState(NamedTuple):
    scale: float = 1.0


class Halving:
    """Somebody's own policy."""

    def init(self) -> HalvingState:
        return HalvingState()

    def update(self, state: HalvingState, loss: float, **signals: float) -> HalvingState:
        return HalvingState(state.scale * 0.5)


def scales(policy: Policy[HalvingState]) -> list[float]:
    return [state.scale for state in schedule(policy, [3.0, 2.0])]


def main() -> list[float | torch.Tensor]:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    combined = Then(Warmup(Clip(Greedy(), max_scale=2.0), steps=2), Every(Linear(steps=4), steps=2), after=6)
    for scheduler in (
        PolicyLR(optimizer, combined),
        GreedyLR(optimizer, window=3, stage="hold"),
        PolicyLR(optimizer, Halving()),
        GreedyLR(optimizer, min_lr=[0.01], threshold_mode="abs", smooth=False),
        GreedyLR(optimizer, compat="transformers", max_lr=0.5),
        get_greedy_schedule(optimizer, patience=5),
    ):
        loss = model(torch.ones(2)).square().mean()
        loss.backward()
        optimizer.step()
        scheduler.observe(loss)
        scheduler.step()
        scheduler.step(loss)
        scheduler.step(metrics=float(loss))
        scheduler.load_state_dict(scheduler.state_dict())
    return PolicyLR(optimizer, Step(milestones=(1, 2))).get_last_lr()


if __name__ == "__main__":
    print(scales(Halving()), main(), Cosine(steps=3).at(1))
