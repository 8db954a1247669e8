"""The problems that can be named: look them up here, or on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surefoot.nmf import Factorisation
from surefoot.recipes import RECIPES, Recipe, pick

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.problems import Problem

PROBLEMS: dict[str, Recipe] = {
    **RECIPES,
    "digits-nmf": Recipe(
        description="Take handwritten digits apart into 16 nonnegative parts",
        data=RECIPES["digits-mlp"].data,
        model="nonnegative matrix factorisation; rates are multiples of its stability bound",
        bases={"sgd": Factorisation.base},
        steps=Factorisation.steps,
        batch_size=64,
        revision=Factorisation.revision,
        signals=("alignment", "relative_step", "bound"),
    ),
}
"""Every problem by name. Data and frameworks are loaded when a problem is made."""


def problem(name: str, optimizer: str = "sgd", **overrides: Any) -> Problem[Any]:
    """The problem of that name, ready to be trained.

    >>> problem("digits-nmf", steps=100).steps
    100

    Args:
        name: One of `PROBLEMS`.
        optimizer: One that this problem offers.
        **overrides: What shall differ from the table, such as `steps`, `base` or `batch_size`; of networks, `ranks` as well.

    Raises:
        ValueError: A name is not known, a setting is outside its range, or the problem cannot be trained by several ranks.
    """
    pick(PROBLEMS, name, optimizer)
    if name == "digits-nmf":
        if overrides.pop("ranks", 1) != 1:
            raise ValueError(f"{name} is trained by one process (leave it out, or train it with ranks=1)")
        return Factorisation(name, **{"load": _digit_rows, "batch_size": PROBLEMS[name].batch_size, **overrides})
    from surefoot.networks import network

    return network(name, optimizer, **overrides)


def _digit_rows() -> tuple[NDArray[Any], NDArray[Any]]:
    from surefoot import data

    split = data.digits()
    return split.train_x, split.held_out_x
