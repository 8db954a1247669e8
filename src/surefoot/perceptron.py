"""A small network that turns what is seen into an action, in any arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefoot.arithmetic import arithmetic

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Perceptron:
    r"""Weighted sums, layer by layer, with a hyperbolic tangent in between.

    $$y = W_n \tanh(\cdots \tanh(W_1 x + b_1) \cdots) + b_n$$

    There are no gradients here, and no framework: this is for acting, not for learning.

    >>> import numpy as np
    >>> mean = Perceptron(((np.float32([[0.5, 0.5]]), np.float32([0.0])),))
    >>> mean((1.0, 3.0))
    2.0
    >>> mean(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    array([2., 2., 2.])

    Attributes:
        layers: Weights of shape (outputs, inputs) and biases of shape (outputs,), layer by layer, in float32 and finite. Each
            layer has as many inputs as the one before has outputs, and the last has one output.

    Raises:
        ValueError: There are no layers, their shapes do not fit together, they are not of float32, or not finite.
    """

    layers: tuple[Layer, ...]
    _like: dict[Any, list[Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple((weight, bias) for weight, bias in self.layers))
        if not self.layers:
            raise ValueError("a network must have at least one layer, got none")
        for place, (weight, bias) in enumerate(self.layers):
            if not weight.dtype == bias.dtype == np.float32:
                raise ValueError(f"weights must be float32, got {weight.dtype} and {bias.dtype} in layer {place}")
            if weight.ndim != 2 or 0 in weight.shape or bias.shape != weight.shape[:1]:  # noqa: PLR2004 - rows and columns
                raise ValueError(
                    f"a layer must be (outputs, inputs) and (outputs,), layer {place} is {weight.shape}, {bias.shape}"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError(f"weights must be finite, some of layer {place} are not")
        for (before, _), (after, _) in pairwise(self.layers):
            if len(before) != after.shape[1]:
                raise ValueError(
                    f"a layer must take what the one before gives, {after.shape[1]} numbers follow on {len(before)}"
                )
        if self.sizes[-1] != 1:
            raise ValueError(f"the last layer must have one output, the action, got {self.sizes[-1]}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers go in, through each layer, and out."""
        return (self.layers[0][0].shape[1], *(len(bias) for _, bias in self.layers))

    def __call__(self, view: Any) -> Any:
        """The action.

        Args:
            view: What is seen: a tuple of plain numbers, or an array of NumPy, PyTorch or JAX, entries along the first axis,
                runs of any shape along the others. Plain numbers and NumPy's float64 may differ in the last bits.

        Returns:
            A plain number, or an array of the shape and type of the runs.
        """
        if isinstance(view, tuple):
            (action,) = _through(np, np.array(view), self._arrays(np.float64))
            return float(action)
        xp = arithmetic(view)
        # JAX takes NumPy's arrays as constants; its own could not be kept from one trace to the next.
        layers = self._on(xp, view.dtype, view.device) if xp.__name__ == "torch" else self._arrays(view.dtype)
        columns = [(weight, bias[:, None]) for weight, bias in layers]
        return _through(xp, view.reshape(len(view), -1), columns).reshape(view.shape[1:])

    def _arrays(self, dtype: Any) -> list[Any]:
        """The layers in the precision of what is seen."""
        if dtype not in self._like:
            self._like[dtype] = [(weight.astype(dtype), bias.astype(dtype)) for weight, bias in self.layers]
        return self._like[dtype]

    def _on(self, torch: Any, dtype: Any, device: Any) -> list[Any]:
        """The layers as tensors on the device of what is seen, copied there once."""
        if (dtype, device) not in self._like:
            layers = [tuple(torch.as_tensor(part.copy()).to(device, dtype) for part in layer) for layer in self.layers]
            self._like[dtype, device] = layers
        return self._like[dtype, device]


def _through(xp: Any, x: Any, layers: list[Any]) -> Any:
    *hidden, (weight, bias) = layers
    for inner, shift in hidden:
        x = xp.tanh(inner @ x + shift)
    return weight @ x + bias
