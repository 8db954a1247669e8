"""Networks fitted to decisions by weighted regression: a page of PyTorch, and the same to the last bit for a seed."""

from __future__ import annotations

from functools import partial
from math import inf, log
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surefoot.perceptron import Perceptron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surefoot.learn.adapt import Adaptation
    from surefoot.learn.logs import Replay

_PASSES, _BATCH, _RATE = 60, 256, 3e-4


def fitted(
    start: Sequence[int] | Perceptron,
    view: NDArray[Any],
    target: NDArray[Any],
    weight: NDArray[Any],
    *,
    passes: int,
    batch: int,
    rate: float,
    seed: int,
) -> torch.nn.Sequential:
    """A network whose answer is the weighted mean of the target where the view is what it is.

    Args:
        start: The sizes of a network that says next to nothing at the start, or a network to start from.
        view: Shape (decisions, features).
        target: What it shall say; shape (decisions,).
        weight: How much each decision counts, 0 or more; shape (decisions,).
        passes: How often to go through all of them.
        batch: Decisions in a batch.
        rate: Adam's learning rate at the start; it falls linearly to 0.
        seed: Of the weights at the start and of the batches.
    """
    random = torch.Generator().manual_seed(seed)
    model = _from(start) if isinstance(start, Perceptron) else _new(start, random)
    x, y, w = (torch.as_tensor(np.asarray(values, np.float32)) for values in (view, target, weight))
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, partial(_falling, of=passes * -(-len(x) // batch)))
    for _ in range(passes):
        order = torch.randperm(len(x), generator=random)
        for first in range(0, len(x), batch):
            some = order[first : first + batch]
            loss = (w[some] * (model(x[some])[:, 0] - y[some]).square()).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            falling.step()
    return model


def adapted(network: Perceptron, found: Sequence[Replay], settings: Adaptation) -> Perceptron:
    r"""The network, moved towards what the better runs did.

    It minimises $\sum_d w_d\,(\pi(x_d) - a_d)^2 + \alpha\,(\pi(x_d) - \pi_0(x_d))^2$ with the anchor $\alpha$, which is the
    regression on $(w_d a_d + \alpha\,\pi_0(x_d))/(w_d + \alpha)$ with the weight $w_d + \alpha$.
    """
    made = [(each.own(), each.merits()) for each in found]
    view, action = (np.concatenate([own[at] for own, _ in made]) for at in range(2))
    merit = np.concatenate([merits[own.run] for own, merits in made])
    weight = weights(merit, settings.temperature, inf)
    weight /= weight.mean()
    target = (weight * action + settings.anchor * network(view.T)) / (weight + settings.anchor)
    how = {"passes": _PASSES, "batch": _BATCH, "rate": _RATE, "seed": settings.seed}
    return network_of(fitted(network, view, target, weight + settings.anchor, **how))  # type: ignore[arg-type]


def weights(advantage: NDArray[Any], temperature: float, heaviest: float) -> NDArray[np.float64]:
    """How much decisions of these advantages count: their exponential, in units of temperature and deviation, and cut.

    >>> weights(np.array([-1.0, 1.0]), temperature=1.0, heaviest=2.0).round(3).tolist()
    [0.368, 2.0]
    """
    if temperature == inf or not len(advantage):
        return np.ones(len(advantage))
    deviation = float(advantage.std()) or 1.0
    counted: NDArray[np.float64] = np.exp(np.minimum(advantage.astype(np.float64) / deviation / temperature, log(heaviest)))
    return counted


def said(model: torch.nn.Sequential, view: NDArray[Any]) -> NDArray[np.float64]:
    """What a model answers to these views."""
    with torch.no_grad():
        answer: NDArray[np.float64] = model(torch.as_tensor(view))[:, 0].numpy().astype(np.float64)
    return answer


def network_of(model: torch.nn.Sequential) -> Perceptron:
    """The same network without PyTorch."""
    layers = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    return Perceptron(tuple((layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in layers))


def _from(network: Perceptron) -> torch.nn.Sequential:
    return _chained([(torch.tensor(weight), torch.tensor(bias)) for weight, bias in network.layers])


def _new(sizes: Sequence[int], random: torch.Generator) -> torch.nn.Sequential:
    spreads = [inputs**-0.5 for inputs in sizes[:-2]] + [0.01]
    pairs = zip(sizes, sizes[1:], spreads, strict=False)
    return _chained(
        [(spread * torch.randn(outputs, inputs, generator=random), torch.zeros(outputs)) for inputs, outputs, spread in pairs]
    )


def _chained(layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.nn.Sequential:
    parts: list[torch.nn.Module] = []
    for weight, bias in layers:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], device="meta")  # No numbers are drawn for it.
        layer.weight, layer.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
        parts += [layer, torch.nn.Tanh()]
    return torch.nn.Sequential(*parts[:-1])


def _falling(step: int, of: int) -> float:
    return 1.0 - step / of
