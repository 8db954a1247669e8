"""The optimizers of the comparison, by name: two that schedules drive, and those that bring their rate along.

A method is compared within a cell, with the schedules that drive the cell's own optimizer. Nothing here is tuned: settings and
rates are the defaults of whoever wrote the method. One more optimizer is one more line of `OPTIMIZERS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

from surefoot import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

CELLS = ("sgd", "adamw")
"""SGD with momentum 0.9, and AdamW, under which schedules are compared."""


@dataclass(frozen=True)
class ContestOptimizer:
    """An optimizer of the comparison.

    Attributes:
        name: Lower-case words with hyphens; of the cells' own optimizers, the cell's.
        method: What it is called in every cell that it has a form for.
        cell: One of `CELLS`: whose schedules it is compared with.
        make: Makes it, given parameters and `lr`.
        rate: The default rate of whoever wrote it.
        source: Where it is from.
        package: The Python package that it comes with, other than PyTorch; empty for PyTorch's and this library's own.
        in_fleet: Whether many runs are trained at once; if not, they are trained one by one.
        has_modes: Whether it is judged at another point than it is trained at, as `surefoot.averaged` has it.
    """

    name: str
    method: str
    cell: str
    make: Callable[..., Optimizer]
    rate: float
    source: str
    package: str = ""
    in_fleet: bool = True
    has_modes: bool = False

    def missing(self) -> str | None:
        """A sentence that says how to get the package that it comes with; None if it is there."""
        return _advice(self.package) if self.package and find_spec(self.package) is None else None


def find(name: str) -> ContestOptimizer:
    """The optimizer of a name.

    >>> find("prodigy").cell, find("prodigy").rate
    ('adamw', 1.0)

    Raises:
        ValueError: None has this name.
    """
    checks.one_of("optimizer", name, tuple(OPTIMIZERS))
    return OPTIMIZERS[name]


def of_cell(cell: str) -> tuple[ContestOptimizer, ...]:
    """The optimizers of a cell, its own first.

    >>> [optimizer.name for optimizer in of_cell("sgd")][:2]
    ['sgd', 'schedule-free-sgd']

    Raises:
        ValueError: There is no such cell.
    """
    checks.one_of("cell", cell, CELLS)
    return tuple(optimizer for optimizer in OPTIMIZERS.values() if optimizer.cell == cell)


def _advice(package: str) -> str:
    return f"the Python package {package} must be installed, got none (run `pip install 'surefoot[contest]'`)"


def _plain(cell: str, params: Any, lr: float) -> Optimizer:
    from surefoot.networks import OPTIMIZERS as PLAIN

    return PLAIN[cell](params, lr=lr)


def _packaged(package: str, kind: str, params: Any, lr: float) -> Optimizer:
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_advice(package)) from error
    made: Optimizer = getattr(module, kind)(params, lr=lr)
    return made


def _hypergradient(params: Any, lr: float, **settings: Any) -> Optimizer:
    from surefoot.hypergradient_descent import HypergradientDescent

    return HypergradientDescent(params, lr, **settings)


def _momo(params: Any, lr: float, **settings: Any) -> Optimizer:
    from surefoot.momo import MoMo

    return MoMo(params, lr, **settings)


def _backtracking(params: Any, lr: float) -> Optimizer:
    from surefoot.backtracking import Backtracking

    return Backtracking(params, lr)


_PYTORCH = "PyTorch"
_SCHEDULE_FREE = "Defazio et al., 2024, arXiv:2405.15682"
_PRODIGY = "Mishchenko and Defazio, 2023, arXiv:2306.06101"
_HYPERGRADIENT = "Baydin et al., 2018, arXiv:1703.04782"
_MOMO = "Schaipp et al., 2024, arXiv:2305.07583"
_LINE_SEARCH = "Vaswani et al., 2019, arXiv:1905.09997"

_free = partial(ContestOptimizer, source=_SCHEDULE_FREE, package="schedulefree", in_fleet=False, has_modes=True)
_DIRECTIONS = {"sgd": "momentum", "adamw": "adamw"}
# A network comes as one parameter group, so `per="group"` would be the global one. Its groups here are its tensors: each
# layer's weights, and its biases.
_SHARED = {"global": "all", "group": "tensor", "parameter": "element"}
_RULES = ("additive", "multiplicative")

_ALL = (
    ContestOptimizer("sgd", "plain", "sgd", partial(_plain, "sgd"), 1e-3, _PYTORCH),
    ContestOptimizer("adamw", "plain", "adamw", partial(_plain, "adamw"), 1e-3, _PYTORCH),
    _free("schedule-free-sgd", "schedule-free", "sgd", partial(_packaged, "schedulefree", "SGDScheduleFree"), 1.0),
    _free("schedule-free-adamw", "schedule-free", "adamw", partial(_packaged, "schedulefree", "AdamWScheduleFree"), 2.5e-3),
    # Adam's direction with a rate of its own. The authors give no form for SGD, so that there is none in that cell.
    ContestOptimizer(
        "prodigy",
        "prodigy",
        "adamw",
        partial(_packaged, "prodigyopt", "Prodigy"),
        1.0,
        _PRODIGY,
        package="prodigyopt",
        in_fleet=False,
    ),
    *(
        ContestOptimizer(
            f"hypergradient-{shared}-{rule}-{cell}",
            f"hypergradient-{shared}-{rule}",
            cell,
            partial(_hypergradient, direction=_DIRECTIONS[cell], rule=rule, per=_SHARED[shared]),
            1e-3,
            _HYPERGRADIENT,
        )
        for cell, rule, shared in product(CELLS, _RULES, _SHARED)
    ),
    ContestOptimizer("momo-sgd", "momo", "sgd", partial(_momo, direction="sgd"), 1.0, _MOMO),
    ContestOptimizer("momo-adam", "momo", "adamw", partial(_momo, direction="adam"), 1e-2, _MOMO),
    # The search is along the gradient, without momentum, as the article's is.
    ContestOptimizer("backtracking", "backtracking", "sgd", _backtracking, 1.0, _LINE_SEARCH, in_fleet=False),
)

OPTIMIZERS = {optimizer.name: optimizer for optimizer in _ALL}
"""All of them by name."""
