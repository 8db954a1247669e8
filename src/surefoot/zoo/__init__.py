"""Networks that policies learn on, and others, never seen in training, that they are judged on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import data
from surefoot.models import Gated, Residual, Rows, Transformer, convolutions, perceptron
from surefoot.networks import Network, network
from surefoot.zoo import sources
from surefoot.zoo.bases import BASES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from surefoot.data import Split

__all__ = ["AXES", "Judged", "judging", "training"]

AXES = ("size", "architecture", "data", "horizon", "optimizer")
"""In what a problem of `judging` can differ from all problems of `training`."""

_UNTUNED = 0.01
"""The base of a problem that has just been added, until its own is found."""


class Judged(NamedTuple):
    """A problem that no policy has been trained on.

    Attributes:
        axis: The one of `AXES` along which it lies outside of all that is trained on.
        problem: The problem.
    """

    axis: str
    problem: Network


def training() -> list[Network]:
    """Problems to learn on: small, cheap, and as different from each other as such can be.

    Perceptrons of one to three hidden layers, 8 to 64 wide, some with batch normalisation, larger or smaller initial weights or
    wrong labels; small convolutions, a recurrent network and a transformer; batches of 8 to 128; 300 to 3,000 steps; driven by
    plain SGD, SGD with momentum, Adam and AdamW. The base rate of each is the best one of a coarse grid for a
    `surefoot.WarmupStableDecay`.
    """
    return [*_digits(), *_tables(), *_teachers(), *_mixtures(), *_others()]


def judging() -> list[Judged]:
    """Problems to judge on: each lies outside of `training` along one of `AXES`, and most differ in more than that.

    Size
        Wider and deeper than any in training.
    Architecture
        A residual network with layer normalisation, and a gated recurrent unit.
    Data
        Pictures of clothes, and Python's standard library.
    Horizon
        5,000 and 6,000 steps, up to twice the longest in training.
    Optimizer
        RMSprop and Adagrad.

    Raises:
        DataMissing: Fashion-MNIST, once it is trained on, is not on this machine and could not be fetched.
    """
    digits, residual = data.digits, partial(Residual, 64, 24, 2, 10)
    other, third = (partial(sources.teacher, number, 20, 4) for number in (101, 102))
    # So many rows that no long training knows them by heart.
    many, clouds = partial(sources.teacher, 100, 20, 4, 20_000), partial(sources.mixture, 100, 16, 6, 20_000)
    crowd = partial(sources.mixture, 101, 12, 4)
    small = partial(Residual, 20, 16, 2, 4)
    return [
        Judged("size", _made("digits-256", "sgd", 600, 64, digits, _mlp(64, [256], 10))),
        Judged("size", _made("digits-32x32x32x32x32x32", "adam", 600, 64, digits, _mlp(64, [32] * 6, 10))),
        Judged("architecture", _made("digits-residual", "adamw", 500, 32, digits, residual)),
        Judged("architecture", _made("teacher-residual", "sgd", 800, 32, other, small)),
        Judged("architecture", _made("digits-gated", "adam", 500, 32, digits, partial(Gated, 8, 24, 10))),
        Judged("data", _made("fashion-32", "sgd", 1000, 32, sources.coarse_fashion, _mlp(196, [32], 10))),
        Judged("data", _made("modules-24x24", "adamw", 600, 32, sources.modules, _mlp(data.VOCABULARY, [24, 24], 12))),
        Judged("data", _rebased("fashion-cnn", "adam")),
        Judged("data", _rebased("stdlib-gpt", "adamw")),
        Judged("horizon", _made("teacher-long", "plain-sgd", 5000, 32, many, _mlp(20, [24], 4))),
        Judged("horizon", _made("mixture-long", "adam", 6000, 32, clouds, _mlp(16, [16], 6))),
        Judged("optimizer", _made("teacher-rmsprop", "rmsprop", 800, 32, third, _mlp(20, [32], 4))),
        Judged("optimizer", _made("mixture-adagrad", "adagrad", 800, 32, crowd, _mlp(12, [24, 24], 4))),
    ]


def _digits() -> list[Network]:
    load, one, two = data.digits, partial(sources.noisy, data.digits, 0.1), partial(sources.noisy, data.digits, 0.2)
    return [
        _made("digits-16", "plain-sgd", 600, 32, load, _mlp(64, [16], 10)),
        _made("digits-32-normed", "plain-sgd", 500, 64, load, _mlp(64, [32], 10, batch_norm=True)),
        _made("digits-64", "sgd", 1000, 32, load, _mlp(64, [64], 10)),
        _made("digits-32x32", "adam", 600, 32, load, _mlp(64, [32, 32], 10)),
        _made("digits-24x24x24", "plain-sgd", 1000, 64, load, _mlp(64, [24, 24, 24], 10)),
        _made("digits-32-noisy", "sgd", 600, 64, two, _mlp(64, [32], 10)),
        _made("digits-24x24-noisy-normed", "adamw", 800, 32, one, _mlp(64, [24, 24], 10, batch_norm=True)),
        _made("digits-32-strong", "adam", 300, 16, load, _mlp(64, [32], 10, gain=2.5)),
        _made("digits-24x24-weak", "sgd", 600, 16, load, _mlp(64, [24, 24], 10, gain=0.4)),
        _made("digits-8", "adamw", 1500, 8, load, _mlp(64, [8], 10)),
    ]


def _tables() -> list[Network]:
    tumours = partial(sources.noisy, data.breast_cancer, 0.1)
    return [
        _made("tumours-16", "plain-sgd", 300, 16, data.breast_cancer, _mlp(30, [16], 2)),
        _made("tumours-8-noisy-normed", "adam", 300, 64, tumours, _mlp(30, [8], 2, batch_norm=True)),
        _made("wine-8", "sgd", 300, 8, data.wine, _mlp(13, [8], 3)),
        _made("wine-8x8", "adamw", 300, 64, data.wine, _mlp(13, [8, 8], 3)),
    ]


def _teachers() -> list[Network]:
    def load(number: int, inputs: int, classes: int) -> partial[Split]:
        return partial(sources.teacher, number, inputs, classes)

    return [
        _made("teacher-16", "plain-sgd", 2000, 16, load(0, 12, 3), _mlp(12, [16], 3)),
        _made("teacher-32x32", "sgd", 1500, 32, load(1, 32, 2), _mlp(32, [32, 32], 2)),
        _made("teacher-64-weak", "adam", 600, 64, load(2, 20, 8), _mlp(20, [64], 8, gain=0.5)),
        _made("teacher-16x16x16", "adamw", 1000, 32, load(3, 24, 4), _mlp(24, [16, 16, 16], 4)),
        _made("teacher-48", "plain-sgd", 500, 128, load(4, 40, 5), _mlp(40, [48], 5)),
        _made("teacher-24-noisy", "adam", 3000, 16, partial(sources.noisy, load(5, 16, 2), 0.15), _mlp(16, [24], 2)),
    ]


def _mixtures() -> list[Network]:
    def load(number: int, features: int, classes: int) -> partial[Split]:
        return partial(sources.mixture, number, features, classes)

    return [
        _made("mixture-8", "sgd", 3000, 8, load(0, 6, 4), _mlp(6, [8], 4)),
        _made("mixture-32-normed", "plain-sgd", 600, 32, load(1, 24, 8), _mlp(24, [32], 8, batch_norm=True)),
        _made("mixture-24x24", "adamw", 600, 64, load(2, 16, 10), _mlp(16, [24, 24], 10)),
        _made("mixture-16-strong", "sgd", 400, 128, load(3, 32, 3), _mlp(32, [16], 3, gain=3.0)),
        _made("mixture-32-noisy", "adam", 800, 32, partial(sources.noisy, load(4, 10, 5), 0.2), _mlp(10, [32], 5)),
        _made("mixture-16x16-small", "plain-sgd", 1500, 8, load(5, 8, 2), _mlp(8, [16, 16], 2)),
    ]


def _others() -> list[Network]:
    digits = partial(sources.few, data.digits, 150)
    normed = partial(convolutions, 8, (3, 6), 10, batch_norm=True)
    letters = partial(Transformer, data.VOCABULARY, sources.CONTEXT, 12, 2, 1)
    return [
        _made("digits-convolutions", "plain-sgd", 500, 16, digits, partial(convolutions, 8, (4, 8), 10)),
        _made("digits-convolutions-momentum", "sgd", 400, 16, digits, partial(convolutions, 8, (4, 8), 10)),
        _made("digits-convolutions-normed", "adam", 300, 16, digits, normed),
        _made("digits-rows", "adam", 400, 8, digits, partial(Rows, 8, 12, 10)),
        _made("descriptions-transformer", "adamw", 400, 4, partial(sources.few, sources.descriptions, 32), letters),
    ]


def _made(  # noqa: PLR0917 - a table reads best without names in every row
    name: str, optimizer: str, steps: int, batch_size: int, load: Callable[[], Split], model: Callable[[], nn.Module]
) -> Network:
    return Network(name, optimizer, BASES.get(name, _UNTUNED), steps, batch_size, load, model)


def _rebased(name: str, optimizer: str) -> Network:
    """A network of the catalogue with the zoo's base rate."""
    return network(name, optimizer, base=BASES.get(name, _UNTUNED))


def _mlp(inputs: int, hidden: Sequence[int], classes: int, **settings: Any) -> Callable[[], nn.Module]:
    return partial(perceptron, inputs, tuple(hidden), classes, **settings)
