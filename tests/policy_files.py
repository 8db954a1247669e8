"""Files of learned policies for the tests: networks that were never trained, but have opinions."""

from itertools import pairwise

import numpy as np

from surefoot import policy_file
from surefoot.features import Features
from surefoot.perceptron import Perceptron
from surefoot.policy_file import Card


def network(*sizes, seed=0):
    random = np.random.default_rng(seed)
    return Perceptron(
        tuple(
            (
                random.normal(0.0, inputs**-0.5, (outputs, inputs)).astype(np.float32),
                random.normal(0.0, 0.1, outputs).astype("f4"),
            )
            for inputs, outputs in pairwise(sizes)
        )
    )


def card(*, window=3, tier="loss", bound=False, **settings):
    inputs = Features(window, tier, bound).names
    usual = {
        "name": "made-up",
        "description": "Was never trained.",
        "layers": (len(inputs), 8, 1),
        "schedule": {"is": "WarmupStableDecay", "warmup": 0.1, "decay": 0.4},
        "first": (1, 2),
        "rise": 2.0,
        "cut": 3.0,
        "alarm": 8.0,
        "rescue": 4.0,
        "surefoot": "0.1.0",
        "training": {"command": "none", "seed": 0},
        "judged": ({"problem": "none", "ratio": 1.0},),
    }
    return Card(window=window, tier=tier, bound=bound, inputs=inputs, **usual | settings)


def silent(*sizes):
    return Perceptron(
        tuple((np.zeros((outputs, inputs), "f4"), np.zeros(outputs, "f4")) for inputs, outputs in pairwise(sizes))
    )


def made(folder, name="made-up", *, seed=0, **settings):
    """The path of a policy's card; without a seed, the network never says anything."""
    about = card(**settings)
    policy_file.write(folder / name, silent(*about.layers) if seed is None else network(*about.layers, seed=seed), about)
    return str(folder / f"{name}.json")
