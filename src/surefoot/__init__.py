"""Learning-rate schedules driven by the loss."""

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
