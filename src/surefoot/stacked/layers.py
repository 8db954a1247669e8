"""Layers of many networks at once, forwards and backwards, by batched matrix products.

All arrays end with the examples of a batch: (runs, features, examples), or (runs, channels, height, width, examples) for
pictures. So every loop over examples is contiguous, a convolution is a product of small filters with long rows, and the scores
of a softmax are summed across, not along, the lanes of a processor. Which layer is done how was measured; a model with any
other layer goes through `surefoot.stacked.traced` as a whole.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Own(NamedTuple):
    """What belongs to one layer: stacked parameters, where their gradients go, and running statistics; (runs, ...) each."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    buffers: list[Tensor]


class Layer(Protocol):
    """A layer of every run at once; what `forward` saves is what `backward` needs."""

    def forward(self, own: Own, x: Tensor, training: bool) -> tuple[Tensor, Any]:
        """What comes out, and what to save."""
        ...

    def backward(self, own: Own, saved: Any, dy: Tensor, wanted: bool) -> Tensor | None:
        """Write the gradients of the parameters; return that of what came in, if it is wanted. `dy` may be overwritten."""
        ...


class Linear:
    """`nn.Linear`."""

    def __init__(self, module: nn.Linear) -> None:
        self.has_bias = module.bias is not None

    def forward(self, own: Own, x: Tensor, training: bool) -> tuple[Tensor, Any]:  # noqa: ARG002 - the same in both
        """One batched product."""
        if self.has_bias:
            return torch.baddbmm(own.parameters[1].unsqueeze(-1), own.parameters[0], x), x
        return torch.bmm(own.parameters[0], x), x

    def backward(self, own: Own, saved: Any, dy: Tensor, wanted: bool) -> Tensor | None:
        """Two more."""
        torch.bmm(dy, saved.transpose(1, 2), out=own.gradients[0])
        if self.has_bias:  # Not `sum`, which was measured to take ten times as long on short rows.
            torch.mv(dy.reshape(-1, dy.shape[-1]), dy.new_ones(dy.shape[-1]), out=own.gradients[1].flatten())
        return torch.bmm(own.parameters[0].transpose(1, 2), dy) if wanted else None


class ReLU:
    """`nn.ReLU`."""

    def forward(self, own: Own, x: Tensor, training: bool) -> tuple[Tensor, Any]:  # noqa: ARG002
        """The positive part."""
        y = x.relu()
        return y, y

    def backward(self, own: Own, saved: Any, dy: Tensor, wanted: bool) -> Tensor | None:  # noqa: ARG002
        """Nothing where it was not positive."""
        return torch.ops.aten.threshold_backward.grad_input(dy, saved, 0, grad_input=dy)  # type: ignore[no-any-return]


class Reshape:
    """`nn.Flatten` and `nn.Unflatten` of all but the examples."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, own: Own, x: Tensor, training: bool) -> tuple[Tensor, Any]:  # noqa: ARG002
        """Another shape."""
        return x.reshape(len(x), *self.shape, x.shape[-1]), x.shape

    def backward(self, own: Own, saved: Any, dy: Tensor, wanted: bool) -> Tensor | None:  # noqa: ARG002
        """The shape from before."""
        return dy.reshape(saved)


class Convolution:
    """`nn.Conv2d` without groups or dilation: patches side by side, and one batched product."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.kernel, self.stride = module.kernel_size, module.stride
        self.padding: tuple[int, int] = module.padding  # type: ignore[assignment]  # Words are refused in `layer`.
        self.has_bias = module.bias is not None

    def forward(self, own: Own, x: Tensor, training: bool) -> tuple[Tensor, Any]:  # noqa: ARG002
        """Filters times patches."""
        runs, _, height, width, examples = x.shape
        patches = self._patches(x)
        filters = own.parameters[0].flatten(2)
        y = torch.baddbmm(own.parameters[1].unsqueeze(-1), filters, patches) if self.has_bias else torch.bmm(filters, patches)
        return y.view(runs, -1, *self._out(height, width), examples), (patches, x.shape)

    def backward(self, own: Own, saved: Any, dy: Tensor, wanted: bool) -> Tensor | None:
        """The same products transposed, and the patches laid back over the picture."""
        patches, shape = saved
        dy = dy.flatten(2)
        torch.bmm(dy, patches.transpose(1, 2), out=own.gradients[0].flatten(2))
        if self.has_bias:
            torch.sum(dy, -1, out=own.gradients[1])
        if not wanted:
            return None
        return self._laid_back(torch.bmm(own.parameters[0].flatten(2).transpose(1, 2), dy), shape)

    def _out(self, height: int, width: int) -> tuple[int, int]:
        sizes = zip((height, width), self.kernel, self.stride, self.padding, strict=True)
        rows, columns = ((size + 2 * margin - kernel) // stride + 1 for size, kernel, stride, margin in sizes)
        return rows, columns

    def _patches(self, x: Tensor) -> Tensor:
        """(runs, channels x kernel, positions x examples)."""
        (down, across), (rows, columns) = self.padding, self._out(*x.shape[2:4])
        if down or across or not x.is_contiguous():
            x = pad(x, (0, 0, across, across, down, down)).contiguous()
        run, channel, line, dot, one = x.stride()
        (high, wide), (jump, leap) = self.kernel, self.stride
        shape = (len(x), x.shape[1], high, wide, rows, columns, x.shape[-1])
        windows = x.as_strided(shape, (run, channel, line, dot, jump * line, leap * dot, one))
        return windows.reshape(len(x), x.shape[1] * high * wide, -1)

    def _laid_back(self, patches: Tensor, shape: torch.Size) -> Tensor:
        runs, channels, height, width, examples = shape
        (down, across), (rows, columns), (jump, leap) = self.padding, self._out(height, width), self.stride
        dx = patches.new_zeros(runs, channels, height + 2 * down, width + 2 * across, examples)
        windows = patches.view(runs, channels, *self.kernel, rows, columns, examples)
        for i, j in product(*map(range, self.kernel)):
            dx[:, :, i : i + jump * rows : jump, j : j + leap * columns : leap].add_(windows[:, :, i, j])
        return dx[:, :, down : down + height, across : across + width]


class MaxPool:
    """`nn.MaxPool2d` of windows side by side; of equal values the first one counts, as in PyTorch."""

    def __init__(self, module: nn.MaxPool2d) -> None:
        self.size = int(module.kernel_size)  # type: ignore[arg-type]

    def forward(self, own: Own, x: Tensor, training: bool) -> tuple[Tensor, Any]:  # noqa: ARG002
        """The largest of each window."""
        first, *others = (x[place] for place in self._places(x))
        y = first
        for other in others:
            y = torch.maximum(y, other)
        return y, (x, y)

    def backward(self, own: Own, saved: Any, dy: Tensor, wanted: bool) -> Tensor | None:  # noqa: ARG002
        """All of it to the first that is the largest."""
        x, y = saved
        dx = torch.zeros_like(x)
        hit = torch.empty_like(y)
        for place in self._places(x):
            torch.eq(x[place], y, out=hit)  # As 0.0 and 1.0: truth values were measured to take four times as long.
            dy = dy.sub_(torch.mul(dy, hit, out=dx[place]))
        return dx

    def _places(self, x: Tensor) -> Iterator[tuple[slice, ...]]:
        """Every place in a window, in all the windows that are whole."""
        height, width = (size // self.size * self.size for size in x.shape[2:4])
        for i, j in product(range(self.size), repeat=2):
            yield slice(None), slice(None), slice(i, height, self.size), slice(j, width, self.size)


class BatchNorm:
    """`nn.BatchNorm1d` and `nn.BatchNorm2d`, with running statistics of each run's own."""

    def __init__(self, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        self.eps, self.momentum = module.eps, float(module.momentum or 0.0)

    def forward(self, own: Own, x: Tensor, training: bool) -> tuple[Tensor, Any]:
        """Normalised by the batch when training, by the running statistics otherwise."""
        weight, bias = (parameter.unsqueeze(-1) for parameter in own.parameters)
        rows = x.flatten(2)
        if training:
            variance, mean = torch.var_mean(rows.float(), -1, correction=0)
            count = rows.shape[-1]
            for running, now in zip(own.buffers, (mean, variance * (count / (count - 1))), strict=True):
                running.lerp_(now, self.momentum)
        else:
            mean, variance = own.buffers
        inverse = (variance + self.eps).rsqrt().to(x.dtype).unsqueeze(-1)
        even = (rows - mean.to(x.dtype).unsqueeze(-1)).mul_(inverse)
        return torch.addcmul(bias, even, weight).view(x.shape), (even, inverse)

    def backward(self, own: Own, saved: Any, dy: Tensor, wanted: bool) -> Tensor | None:
        """Without the parts along the mean and along the normalised input."""
        even, inverse = saved
        rows = dy.flatten(2)
        torch.sum(rows * even, -1, out=own.gradients[0])
        torch.sum(rows, -1, out=own.gradients[1])
        if not wanted:
            return None
        along, level = (gradient.unsqueeze(-1) / rows.shape[-1] for gradient in own.gradients)
        dx = (rows - level).sub_(even * along).mul_(inverse * own.parameters[0].unsqueeze(-1))
        return dx.view(dy.shape)


def layer(module: nn.Module) -> Layer | None:
    """The stacked form of a module; None if there is none."""
    make = _KNOWN.get(type(module))
    return None if make is None else make(module)


def _convolution(module: Any) -> Layer | None:
    plain = module.groups == 1 and set(module.dilation) == {1} and module.padding_mode == "zeros"
    return Convolution(module) if plain and not isinstance(module.padding, str) else None


def _max_pool(module: Any) -> Layer | None:
    settings = (module.kernel_size, module.padding, module.dilation, module.return_indices, module.ceil_mode)
    return MaxPool(module) if settings == (module.stride, 0, 1, False, False) and isinstance(module.stride, int) else None


def _batch_norm(module: Any) -> Layer | None:
    return BatchNorm(module) if module.affine and module.track_running_stats and module.momentum is not None else None


def _flatten(module: Any) -> Layer | None:
    return Reshape((-1,)) if (module.start_dim, module.end_dim) == (1, -1) else None


def _unflatten(module: Any) -> Layer | None:
    return Reshape(tuple(module.unflattened_size)) if module.dim == 1 else None


_KNOWN: dict[type, Callable[[Any], Layer | None]] = {
    nn.Linear: Linear,
    nn.ReLU: lambda _: ReLU(),
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
    nn.Conv2d: _convolution,
    nn.MaxPool2d: _max_pool,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
}
"""What makes the stacked form of a module."""
