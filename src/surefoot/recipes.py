"""The networks there are, by name, and the numbers each is trained with where nobody names others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Recipe(NamedTuple):
    """What a problem is made of.

    Attributes:
        description, data, model: For readers, in a few words.
        bases: The optimizers it offers, each with a base rate at which training works well when it is left constant.
        steps: Budget in optimizer steps.
        batch_size: Examples in a batch.
        revision: Goes up whenever earlier runs can no longer be compared with new ones.
        signals: What its steps can measure besides their loss.
    """

    description: str
    data: str
    model: str
    bases: Mapping[str, float]
    steps: int
    batch_size: int
    revision: int = 1
    signals: tuple[str, ...] = ("alignment", "relative_step")


def pick(recipes: Mapping[str, Recipe], name: str, optimizer: str) -> Recipe:
    """The recipe of that name, if it offers that optimizer."""
    if name not in recipes:
        raise ValueError(f"no problem is called {name!r}; choose from {', '.join(recipes)}")
    if optimizer not in recipes[name].bases:
        raise ValueError(f"{name} cannot be trained with {optimizer!r}; choose from {', '.join(recipes[name].bases)}")
    return recipes[name]


_DIGITS = "1,797 handwritten digits of 8 x 8 pixels"

RECIPES: dict[str, Recipe] = {
    "digits-mlp": Recipe(
        description="Tell handwritten digits apart with one hidden layer",
        data=_DIGITS,
        model="64-64-10 perceptron, ReLU",
        bases={"sgd": 0.1, "adam": 0.01, "adamw": 0.01, "rmsprop": 3e-3, "adagrad": 0.1},
        steps=600,
        batch_size=64,
    ),
    "digits-cnn": Recipe(
        description="Tell handwritten digits apart with two convolutions",
        data=_DIGITS,
        model="convolutions of 16 and 32 channels, linear layer",
        bases={"sgd": 0.03, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 3e-3, "adagrad": 0.03},
        steps=600,
        batch_size=64,
    ),
    "breast-cancer-mlp": Recipe(
        description="Tell malignant tumours from benign ones",
        data="569 tumours, 30 measurements each",
        model="30-32-2 perceptron, ReLU",
        bases={"sgd": 0.03, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 3e-3, "adagrad": 0.03},
        steps=300,
        batch_size=32,
    ),
    "wine-mlp": Recipe(
        description="Tell which of three growers a wine is from",
        data="178 wines, 13 measurements each",
        model="13-32-3 perceptron, ReLU",
        bases={"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "adagrad": 0.01},
        steps=300,
        batch_size=32,
    ),
    "fashion-cnn": Recipe(
        description="Tell pictures of clothes apart with two convolutions",
        data="Fashion-MNIST; the first 2,000 official test images are held out, so that an evaluation stays cheap",
        model="convolutions of 16 and 32 channels, linear layer",
        bases={"sgd": 0.1, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 3e-3, "adagrad": 0.03},
        steps=800,
        batch_size=64,
    ),
    "stdlib-gpt": Recipe(
        description="Guess the next character of Python's own standard library",
        data="36 modules of the standard library; 128 windows of 8 other modules are held out",
        model="transformer of 2 layers, width 64, 4 heads, context 64",
        bases={"sgd": 0.2, "adam": 0.01, "adamw": 0.01, "rmsprop": 2e-3, "adagrad": 0.02},
        steps=400,
        batch_size=16,
    ),
}
"""One entry per network; `surefoot.networks` knows how to build them."""
