"""What ranks do in tests. It imports little, since every rank imports it anew."""

import multiprocessing
import os
import sys
from functools import cache, partial

import numpy as np
import torch
from torch import distributed, nn

from surefoot.greedy import Greedy

NERVOUS = Greedy(factor=0.7, patience=1, window=3)


def from_all(found):
    """What was found on every rank, in their order."""
    every = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, found)
    return every


def environment():
    return from_all(dict(os.environ))


def number():
    return distributed.get_rank()


def sum_in_a_group_of_its_own_making():
    distributed.barrier()  # Or one might leave before the other has come.
    distributed.destroy_process_group()
    distributed.init_process_group("gloo", init_method="env://")
    return sum_on("cpu")


def sum_on(device):
    one = torch.ones((), device=device)
    distributed.all_reduce(one)
    return one.item()


def fail(way):
    """Rank 1 fails, and rank 0 waits for it."""
    if distributed.get_rank():
        if way == "raise":
            raise ValueError("this rank has had enough")
        os.kill(os.getpid(), 9) if way == "kill" else sys.exit(3)
    distributed.barrier()


@cache
def clouds():
    """Points around three centres, to be told apart."""
    from surefoot.data import Split

    random = np.random.default_rng(0)
    y = random.integers(0, 3, 400)
    x = (random.normal(size=(3, 8))[y] + random.normal(size=(400, 8))).astype(np.float32)
    return Split(x[:300], y[:300], x[300:], y[300:])


def network(optimizer="sgd", batch_size=32, **settings):
    from surefoot.networks import Network

    model = partial(nn.Linear, 8, 3)
    return Network("clouds", optimizer, 0.1, 60, batch_size, clouds, model, **settings)


def asked():
    """Networks that are asked for, by what is special about them."""
    from surefoot.momo import MoMo

    return {
        "momentum": {},
        "batches that do not halve": {"optimizer": "adam", "batch_size": 33},
        "an optimizer that is told the loss": {"made": partial(MoMo, direction="sgd")},
        "every step measured": {"gradients": True},
    }


def trained(ranks, settings, at=lambda _step: None):
    """All rates and signals of a training, and its held-out loss."""
    made = network(**settings, ranks=ranks)
    run, state, found = made.init(0), NERVOUS.init(), []
    for step in range(made.steps):
        at(step)
        rate = made.base * state.scale
        run, signals = made.step(run, rate)
        state = NERVOUS.update(state, signals["loss"])
        found.append([rate, *signals.values()])
    return np.array(found), made.held_out(run)


def all_trained(ranks):
    """Each of those that are asked for, as every rank saw it."""
    return {name: from_all(trained(ranks, settings)) for name, settings in asked().items()}


def work(folder):
    """A training by two ranks, one of which is killed on the way, and the next time their worker."""
    from surefoot.engine import on_ranks

    return on_ranks(mortal, folder, count=2)


def mortal(folder):
    return trained(2, {}, at=lambda step: perish(folder) if step == 20 and distributed.get_rank() else None)


def perish(folder):
    victims = {"rank": os.getpid(), "worker": multiprocessing.parent_process().pid}
    for name, victim in victims.items():
        if not (folder / name).exists():
            (folder / name).write_text(str(os.getpid()))
            os.kill(victim, 9)
            return


def cut_and_resumed(folder):
    """Rows of a training that went on from the first rank's checkpoint, and those of one that was not cut."""
    from surefoot.keeping import Keeper
    from surefoot.loop import train

    made = network(gradients=True, ranks=2)
    seconds = 1e12 if distributed.get_rank() else 0.0

    def rows():
        keeper = Keeper(folder / "checkpoint.safetensors", "clouds", seconds=seconds, share=1.0)
        return train(made, NERVOUS, keeper=keeper)

    for row in rows():
        if row.step == 30:
            break
    distributed.barrier()
    return list(rows()), list(train(made, NERVOUS))
