"""Learning-rate schedules driven by the loss."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.combine import Clip, Every, Then, Warmup
    from surefoot.greedy import Greedy
    from surefoot.hypergradient import Hypergradient
    from surefoot.learned import Learned
    from surefoot.loop import train
    from surefoot.plateau import Plateau
    from surefoot.policy import Policy, State, schedule
    from surefoot.runs import Run, Store
    from surefoot.timed import Constant, Exponential, InverseTime, Linear, Polynomial, Step, WarmupStableDecay
    from surefoot.waves import Cosine, CosineRestarts, OneCycle

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Every",
    "Exponential",
    "Greedy",
    "Hypergradient",
    "InverseTime",
    "Learned",
    "Linear",
    "OneCycle",
    "Plateau",
    "Policy",
    "Polynomial",
    "Run",
    "State",
    "Step",
    "Store",
    "Then",
    "Warmup",
    "WarmupStableDecay",
    "__version__",
    "schedule",
    "train",
]

_ROOMS = {
    "combine": ("Clip", "Every", "Then", "Warmup"),
    "greedy": ("Greedy",),
    "hypergradient": ("Hypergradient",),
    "learned": ("Learned",),
    "loop": ("train",),
    "plateau": ("Plateau",),
    "policy": ("Policy", "State", "schedule"),
    "runs": ("Run", "Store"),
    "timed": ("Constant", "Exponential", "InverseTime", "Linear", "Polynomial", "Step", "WarmupStableDecay"),
    "waves": ("Cosine", "CosineRestarts", "OneCycle"),
}
"""Where each name lives. A module is imported when one of its names is asked for: NumPy alone takes a tenth of a second."""
_ROOM = {name: room for room, names in _ROOMS.items() for name in names}

if not TYPE_CHECKING:  # A type checker would take every name for one of these.

    def __getattr__(name: str) -> Any:
        if name not in _ROOM:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
