"""Any module for many runs at once: `vmap` of its gradient, traced once into plain operations and replayed from then on.

Replaying was measured to halve the time of `vmap` for small networks, whose dispatch costs more than their arithmetic. What
`vmap` cannot take, or takes run by run, is exchanged beforehand: see `substitutes`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.stacked.engines import Block

Moved = dict[str, Tensor]


class Traced:
    """A model as an engine.

    Args:
        model: Any module that draws no random numbers and whose operations do not depend on the numbers that flow through.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = substituted(model)
        self._graphs: dict[Any, Callable[..., Any]] = {}

    def learn(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """Write the gradients into the block, move its running statistics, and return the losses; shape (runs,)."""
        given = (block.weights, block.buffers, x, y)
        key = (x.shape, x.dtype, y.shape, x.device)
        if key not in self._graphs:
            self._graphs[key] = self._traced(*given)
        gradients, (losses, moved) = self._graphs[key](*given)
        torch._foreach_copy_(list(block.gradients.values()), [gradients[name] for name in block.gradients])
        for name, buffer in moved.items():
            block.buffers[name].copy_(buffer)
        return losses  # type: ignore[no-any-return]

    def judge(self, block: Block, x: Tensor, y: Tensor) -> Tensor:
        """The losses of every run on the same examples; shape (runs,)."""
        with sdpa_kernel(SDPBackend.MATH):
            losses: Tensor = vmap(self._judge, in_dims=(0, 0, None, None))(block.weights, block.buffers, x, y)
        return losses

    def _traced(self, *given: Any) -> Callable[..., Any]:
        def loss(weights: Moved, buffers: Moved, x: Tensor, y: Tensor) -> tuple[Tensor, Moved]:
            return self._loss(weights, buffers, x, y)

        def gradients(weights: Moved, buffers: Moved, x: Tensor, y: Tensor) -> Any:
            return vmap(grad_and_value(loss, has_aux=True))(weights, buffers, x, y)

        # Attention's fused kernels would be called run by run; its formula becomes batched products.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            try:
                return make_fx(gradients)(*given)
            except RuntimeError as error:
                raise RuntimeError(
                    f"the operations of a fleet's network must be ones that torch.func.vmap can take, got {error} "
                    "(surefoot.fleet.OneByOne trains any network, run by run)"
                ) from error

    def _loss(self, weights: Moved, buffers: Moved, x: Tensor, y: Tensor) -> tuple[Tensor, Moved]:
        self._model.train()
        loss = cross_entropy(functional_call(self._model, (weights, buffers), (x,)), y)
        moved = {
            f"{prefix}.{name}" if prefix else name: tensor
            for prefix, module in self._model.named_modules()
            if isinstance(module, _BatchNorm)
            for name, tensor in module.moved.items()
        }
        return loss, moved

    def _judge(self, weights: Moved, buffers: Moved, x: Tensor, y: Tensor) -> Tensor:
        self._model.eval()
        return cross_entropy(functional_call(self._model, (weights, buffers), (x,)), y)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy over examples and, in a text, over their characters."""
    scores = scores.flatten(0, -2).float()
    right = scores.gather(-1, labels.flatten().unsqueeze(-1)).squeeze(-1)
    return (scores.logsumexp(-1) - right).mean()


def substituted(model: nn.Module) -> nn.Module:
    """A copy of a model with other modules of the same parameters in the places that `vmap` stumbles over.

    Raises:
        ValueError: A module draws random numbers, or is a kind of recurrence or normalisation that is not known here.
    """
    model = deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0.0:  # noqa: SLF001 - it has no other base
            raise ValueError(f"a fleet's network must draw no random numbers, got {module} (set p=0)")
        if make := _SUBSTITUTES.get(type(module)):
            if not name:
                return make(module)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, make(module))
    return model


class _BatchNorm(nn.Module):
    """Batch normalisation that hands out the moved statistics instead of changing them in place."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        if not module.affine or not module.track_running_stats or module.momentum is None:
            raise ValueError(f"batch normalisation in a fleet must be affine and have a momentum, got {module}")
        self.weight, self.bias = module.weight, module.bias
        self.register_buffer("running_mean", module.running_mean)
        self.register_buffer("running_var", module.running_var)
        self.eps, self.momentum = module.eps, module.momentum
        self.moved: Moved = {}

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if self.training:
            others = [axis for axis in range(x.dim()) if axis != 1]
            variance, mean = torch.var_mean(x, others, correction=0)
            count = x.numel() // x.shape[1]
            now = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
            self.moved = {name: torch.lerp(self.get_buffer(name), new.float(), self.momentum) for name, new in now.items()}
        shape = (-1, *(1 for _ in range(x.dim() - 2)))
        scale = self.weight * (variance + self.eps).rsqrt()
        y: Tensor = (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)


class _Lstm(nn.Module):
    """A long short-term memory, cell by cell: PyTorch's own operation has no batched form."""

    def __init__(self, module: nn.LSTM) -> None:
        super().__init__()
        if module.bidirectional or module.proj_size or not module.bias or module.dropout or not module.batch_first:
            raise ValueError(f"an LSTM in a fleet must be batch_first, with biases, one way, without projection, got {module}")
        self.layers, self.width = module.num_layers, module.hidden_size
        for name, parameter in module.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        last = []
        for layer in range(self.layers):
            into, again, bias, other = (
                getattr(self, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            gates = x @ into.t() + (bias + other)
            h = c = x.new_zeros(len(x), self.width)
            outputs = []
            for gate in gates.unbind(1):
                i, f, g, o = (gate + h @ again.t()).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                outputs.append(h)
            x = torch.stack(outputs, 1)
            last.append((h, c))
        return x, (torch.stack([h for h, _ in last]), torch.stack([c for _, c in last]))


_SUBSTITUTES: dict[type, Callable[[Any], nn.Module]] = {
    nn.BatchNorm1d: _BatchNorm,
    nn.BatchNorm2d: _BatchNorm,
    nn.LSTM: _Lstm,
}
