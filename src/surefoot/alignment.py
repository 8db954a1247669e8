"""Two numbers about every optimizer step, which say how a rate is doing."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from surefoot.policy import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch.optim import Optimizer

SIGNALS = ("alignment", "relative_step")
"""What is measured, by the names that policies know it by."""


class _Before(NamedTuple):
    """What is known of a step before it is made: inner products."""

    gradient: Tensor
    along: Tensor
    weights: Tensor


class Alignment:
    r"""Measure the optimizer's steps, for policies that see more than losses.

    With the gradient $g$ of a step, the parameters $w$ before it, and the moves $d$ of this step and $d'$ of the last one:

    - `alignment` is $-g \cdot d' / (|g|\,|d'|)$, the cosine of the angle between downhill and the last move, between -1 and 1.
      It is 0 at the first step. Negative values mean that the last step went too far.
    - `relative_step` is $|d| / |w|$.

    All parameters of all groups count together, but those that require no gradient; one that got no gradient counts as one
    with a gradient of zeros. Between steps one copy of the parameters is kept. Nothing waits for a device.

    A `surefoot.torch.PolicyLR` makes one by itself if its policy asks for these signals.

    >>> import torch
    >>> weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = torch.optim.SGD([weights], lr=0.5)
    >>> measured = Alignment(optimizer)
    >>> for _ in range(2):
    ...     weights.grad = weights.detach().clone()
    ...     optimizer.step()
    >>> {name: round(float(value), 3) for name, value in measured.take().items()}
    {'alignment': 1.0, 'relative_step': 0.5}

    Attributes:
        alignment, relative_step: Those of the last step, as tensors without dimensions; NaN before the first step, and where
            the gradient was not finite.

    Args:
        optimizer: The optimizer whose steps are measured, from the next one on.

    Raises:
        TypeError: The optimizer is not one of PyTorch's.
    """

    alignment: Tensor
    relative_step: Tensor

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer must be one of PyTorch's, got {optimizer!r}")
        self._optimizer = optimizer
        self._moves: dict[Tensor, Tensor] = {}
        self._before: _Before | None = None
        self._last: Tensor | None = None  # The last move's inner product with itself.
        self._is_fresh = False
        self._is_known = True
        self.alignment = self.relative_step = torch.tensor(nan)
        self._attach()

    def take(self) -> Mapping[str, Any]:
        """What was measured of the step since the last call; NaN, which policies forget, where there was none.

        A `GradScaler` that finds gradients which are not finite makes no step, for example.
        """
        was_fresh, self._is_fresh = self._is_fresh, False
        return dict(zip(SIGNALS, (self.alignment, self.relative_step) if was_fresh else (nan, nan), strict=True))

    def forget(self) -> None:
        """Begin anew: the parameters are others now, those of a checkpoint. The next step's alignment is not known, NaN."""
        self._moves, self._last, self._is_fresh, self._is_known = {}, None, False, False

    def save(self) -> tuple[Any, ...]:
        """What the next steps are measured by: see `surefoot.problems.Resumable`."""
        moves = [self._moves.get(weights) for weights in self._parameters()]
        return moves, self._last, self._is_fresh, self._is_known, self.alignment, self.relative_step

    def resume(self, saved: tuple[Any, ...]) -> None:
        """Go on from there, given what was saved as tensors again, where the parameters are."""
        moves, self._last, self._is_fresh, self._is_known, self.alignment, self.relative_step = saved
        pairs = zip(self._parameters(), moves, strict=True)
        self._moves = {weights: move for weights, move in pairs if move is not None}

    def remove(self) -> None:
        """Measure no more."""
        for hook in self._hooks:
            hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_hooks": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy of an optimizer has lost its hooks.
        self.__dict__.update(state)
        self._attach()

    def _attach(self) -> None:
        self._hooks = (
            self._optimizer.register_step_pre_hook(self._look),
            self._optimizer.register_step_post_hook(self._measure),
        )

    def _parameters(self) -> Iterator[Tensor]:
        return (weights for group in self._optimizer.param_groups for weights in group["params"] if weights.requires_grad)

    @torch.no_grad()
    def _look(self, _optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a step: what the gradient says of the last move; then its place is taken by a copy of the parameters."""
        if any(callable(given) for given in (*args, *kwargs.values())):
            raise ValueError(
                f"to measure {' and '.join(SIGNALS)}, gradients must be there before the step, got a closure that finds them "
                "(call backward() yourself, and step() without it)"
            )
        parameters = list(self._parameters())
        with_gradient = [(weights, weights.grad) for weights in parameters if weights.grad is not None]
        for weights, gradient in with_gradient:
            _refuse(weights, gradient)
        moved = ((gradient, self._moves[weights]) for weights, gradient in with_gradient if weights in self._moves)
        self._before = _Before(
            _inner((gradient, gradient) for _, gradient in with_gradient),
            _inner(moved),
            _inner((weights, weights) for weights in parameters),
        )
        rooms = ((weights, self._moves.get(weights)) for weights in parameters)
        self._moves = {weights: weights.detach().clone() if room is None else room.copy_(weights) for weights, room in rooms}

    @torch.no_grad()
    def _measure(self, *_: Any) -> None:
        """After it: how the parameters moved."""
        if self._before is None:
            return
        (gradient, along, size), self._before = self._before, None
        for weights, move in self._moves.items():
            torch.sub(weights, move, out=move)
        last, self._last = self._last, _inner((move, move) for move in self._moves.values())
        slope = gradient * (0.0 if last is None else last)
        is_known = gradient.isfinite() if self._is_known else torch.zeros_like(gradient, dtype=torch.bool)
        alignment = (0.0 - along) / torch.where(slope > 0.0, slope, 1.0).sqrt()
        self.alignment = torch.where(is_known, alignment, nan)
        relative_step = (self._last / torch.where(size > 0.0, size, 1.0)).sqrt()
        # A fused optimizer under a GradScaler has made no step then.
        self.relative_step = torch.where(gradient.isfinite(), relative_step, nan)
        self._is_fresh = self._is_known = True


def asked_for(policy: Any) -> bool:
    """Whether a policy, or one that it is made of, has attributes `signals` that name one of `SIGNALS`."""
    return any(not set(SIGNALS).isdisjoint(getattr(part, "signals", ())) for part in parts(policy))


def _inner(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The inner product of two vectors that come in pieces, in float32 or wider, on the first one's device."""
    products = []
    for one, other in pairs:
        kind = torch.promote_types(one.dtype, torch.float32)
        rows = (torch.view_as_real(piece) if piece.is_complex() else piece for piece in (one.to(kind), other.to(kind)))
        products.append(torch.dot(*(row.reshape(-1) for row in rows)))
    return torch.stack([product.to(products[0].device) for product in products]).sum() if products else torch.zeros(())


def _refuse(weights: Tensor, gradient: Tensor) -> None:
    """Raise if it cannot be measured."""
    advice = "take a policy that sees losses alone, such as one of tier 'loss'"
    if gradient.layout is not torch.strided:
        raise ValueError(f"gradients must be dense to be measured, got one that is sparse ({advice}, or sparse=False)")
    if hasattr(weights, "to_local"):
        raise ValueError(f"parameters must be whole to be measured, got one that is spread over several processes ({advice})")
