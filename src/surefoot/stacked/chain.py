"""A chain of known layers, `nn.Sequential`, for many runs at once: forwards, the loss, and backwards, all by hand.

Without an autograd graph a step of a small network costs about half, and gradients land where the optimizer wants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from surefoot.stacked.layers import Layer, MaxPool, Own, ReLU, layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surefoot.stacked.engines import Block


class Chain:
    """The layers of a model one after another, and the mean cross-entropy of a batch.

    Args:
        links: Layers with the full names of their parameters and of their buffers.
    """

    def __init__(self, links: Sequence[tuple[Layer, list[str], list[str]]]) -> None:
        self._links = links

    @classmethod
    def of(cls, model: nn.Module) -> Chain | None:
        """The chain that a model is, or None if it is none: an unknown layer, or parameters that two layers share."""
        links = []
        for prefix, module in _leaves(model, ""):
            made = layer(module)
            if made is None:
                return None
            parameters = [prefix + name for name, _ in module.named_parameters()]
            buffers = [prefix + name for name, buffer in module.named_buffers() if buffer.is_floating_point()]
            links.append((made, parameters, buffers))
            if len(links) > 1 and isinstance(made, MaxPool) and isinstance(links[-2][0], ReLU):
                links[-2:] = reversed(links[-2:])  # The same numbers, and fewer of them to take the positive part of.
        names = [name for _, parameters, _ in links for name in parameters]
        return cls(links) if links and names == [name for name, _ in model.named_parameters()] else None

    def learn(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """Write the gradients of a batch into the block, move its running statistics, and return the losses before the step.

        Args:
            block: The runs.
            x: Inputs, shape (runs, examples, ...).
            y: What to predict, shape (runs, examples).
        """
        owns, saved = self._owns(block), []
        x = x.movedim(1, -1)
        for (link, _, _), own in zip(self._links, owns, strict=True):
            x, keep = link.forward(own, x, training=True)
            saved.append(keep)
        losses, slope = cross_entropy(x, y)
        first = next(place for place, (_, parameters, _) in enumerate(self._links) if parameters)
        for place in range(len(self._links) - 1, first - 1, -1):
            dx = self._links[place][0].backward(owns[place], saved[place], slope, wanted=place > first)
            slope = slope if dx is None else dx
        return losses

    def judge(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """The losses of all runs on the same examples, none of which changes anything.

        Args:
            block: The runs.
            x: Inputs, shape (examples, ...).
            y: What to predict, shape (examples,).
        """
        x = x.movedim(0, -1).unsqueeze(0).expand(block.runs, *x.shape[1:], len(x))
        for (link, _, _), own in zip(self._links, self._owns(block), strict=True):
            x, _ = link.forward(own, x, training=False)
        return cross_entropy(x, y.expand(block.runs, -1))[0]

    def _owns(self, block: Block) -> list[Own]:
        if "owns" not in block.notes:
            sources = block.weights, block.gradients, block.buffers
            block.notes["owns"] = [
                Own(*([views[name] for name in names] for views, names in zip(sources, (own, own, buffers), strict=True)))
                for _, own, buffers in self._links
            ]
        owns: list[Own] = block.notes["owns"]
        return owns


def cross_entropy(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy of each run, and its gradient.

    Not `log_softmax`: along a short last dimension it was measured to take most of a small network's step.

    Args:
        scores: Shape (runs, classes, examples); overwritten.
        labels: Shape (runs, examples).
    """
    kind, scores = scores.dtype, scores.float()
    places, examples = labels.unsqueeze(1), scores.shape[-1]
    scores.sub_(scores.amax(1, keepdim=True))
    right = scores.gather(1, places).squeeze(1)
    slope = scores.exp_()
    total = slope.sum(1)
    losses = (total.log() - right).mean(-1)
    slope.div_((total * examples).unsqueeze(1))
    slope.scatter_add_(1, places, slope.new_full((1, 1, 1), -1.0 / examples).expand(places.shape))
    return losses, slope.to(kind)


def _leaves(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is nn.Sequential:
        for name, child in module.named_children():
            yield from _leaves(child, f"{prefix}{name}.")
    else:
        yield prefix, module
