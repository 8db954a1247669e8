"""Small networks on real data, as problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy

from surefoot import checks, data
from surefoot.alignment import Alignment
from surefoot.averaged import as_judged, has_modes
from surefoot.backtracking import Backtracking
from surefoot.batches import Batches
from surefoot.fleet import OneByOne
from surefoot.models import Transformer, convolutions, perceptron
from surefoot.momo import MoMo
from surefoot.ranks import distributed_over, mean_over_ranks, share
from surefoot.recipes import RECIPES, pick
from surefoot.snapshot import as_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch.nn.parallel import DistributedDataParallel

    from surefoot.data import Split
    from surefoot.fleet import Fleet

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": partial(optim.SGD, momentum=0.9),
    "plain-sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}
"""Optimizers by name, with PyTorch's defaults but for the momentum of 0.9 of `sgd`; `plain-sgd` has none."""

_CHUNK, _CONTEXT = 512, 64
_RECALIBRATION = 50
"""Batches that running statistics are found from anew, as many as in the example of Schedule-Free's authors."""
# PyTorch refuses a rate that does not fit into float32, and Adam divides its rate by 0.1 first. Nothing trains at 1e30.
_LARGEST_RATE = 1e30


@dataclass
class Training:
    """A network on its way: what `Network.step` changes. `shared` is the model as several ranks train it together."""

    model: nn.Module
    optimizer: optim.Optimizer
    batches: Batches
    measured: Alignment | None = None
    shared: DistributedDataParallel | None = None


@dataclass(frozen=True)
class Network:
    """A network, its data and its optimizer, trained on the mean cross-entropy of a batch.

    Nothing random is shared with the rest of the process: a seed fixes the initial weights and the order of the batches,
    whatever the rates. `network` makes those of the catalogue.

    Attributes:
        name: Lower-case words with hyphens.
        optimizer: One of `OPTIMIZERS`, or with `made` any name.
        base: The base rate where nobody names one, 0 or more.
        steps: The budget in optimizer steps where nobody names one, 1 or more.
        batch_size: Examples in a batch, 1 or more.
        data: Returns the same examples at every step; a function of a module, so that problems can be sent to other processes.
        model: Returns a new model that draws no random numbers once it is made.
        revision: Goes up whenever earlier runs can no longer be compared with new ones.
        made: What makes the optimizer, given parameters and `lr`, where it is not PyTorch's of that name: such as
            `partial(MoMo, direction="adam")`, or `Backtracking`, which is told the model and the steps of an epoch. One that
            has the methods `train` and `eval`, such as Schedule-Free, is judged where `eval` takes the parameters.
        gradients: Whether each step is measured as well as its loss, alone and in a fleet: `surefoot.torch.Alignment` says how.
        ranks: How many processes train it together under `DistributedDataParallel`, 1 or more. Above 1, every rank of a process
            group calls the same: see `surefoot.engine.on_ranks`. Each takes its share of each batch, so that the run is that
            of one process but for rounding; the loss is that of the whole batch, the same number on all ranks.
    """

    name: str
    optimizer: str
    base: float
    steps: int
    batch_size: int
    data: Callable[[], Split] = field(repr=False)
    model: Callable[[], nn.Module] = field(repr=False)
    revision: int = 1
    gradients: bool = False
    made: Callable[..., optim.Optimizer] | None = field(default=None, repr=False)
    ranks: int = 1

    def __post_init__(self) -> None:
        if self.made is None:
            checks.one_of("optimizer", self.optimizer, tuple(OPTIMIZERS))
        checks.number("base", self.base, low=0.0)
        checks.whole("steps", self.steps, low=1)
        checks.whole("batch_size", self.batch_size, low=1)
        checks.whole("ranks", self.ranks, low=1)
        if self.batch_size < self.ranks:
            raise ValueError(f"batch_size must be an example for each of {self.ranks} ranks, or more, got {self.batch_size}")

    @property
    def makes(self) -> Callable[..., optim.Optimizer]:
        """What makes the optimizer, given parameters and `lr`."""
        return self.made or OPTIMIZERS[self.optimizer]

    def init(self, seed: int) -> Training:
        """A training that has not begun."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # Not torch.manual_seed: it would seed the devices, too.
            model = self.model()
        optimizer = self.makes(model.parameters(), lr=self.base)
        batches = Batches(len(self.data().train_x), self.batch_size, seed)
        if isinstance(optimizer, Backtracking):
            if self.ranks > 1:
                raise ValueError("Backtracking tries losses out within a step, where ranks do not talk: train it with ranks=1")
            optimizer.module = model
            optimizer.steps_per_epoch = optimizer.steps_per_epoch or batches.rows // batches.size
        if has_modes(optimizer):
            optimizer.train()  # type: ignore[attr-defined]
        shared = None if self.ranks == 1 else distributed_over(model, self.ranks)
        return Training(model, optimizer, batches, Alignment(optimizer) if self.gradients else None, shared)

    def step(self, run: Training, rate: float) -> tuple[Training, Mapping[str, float]]:
        """One optimizer step at learning rate `rate`; the loss is the batch's before it, finite or not.

        With `gradients`, the signals are `alignment` and `relative_step` as well.
        """
        for group in run.optimizer.param_groups:
            group["lr"] = min(rate, _LARGEST_RATE)
        examples, rows = self.data(), run.batches.draw()
        if run.shared is None:
            loss = _stepped(run.optimizer, partial(_loss, run.model, examples.train_x[rows], examples.train_y[rows]))
        else:
            part, weight = share(rows)
            own = partial(_loss, run.shared, examples.train_x[part], examples.train_y[part])
            loss = _stepped(run.optimizer, lambda: weight * own(), mean_over_ranks)
        signals = {} if run.measured is None else run.measured.take()
        return run, {"loss": loss.item(), **{name: float(value) for name, value in signals.items()}}

    def held_out(self, run: Training) -> float:
        """The mean cross-entropy of the held-out examples; it leaves the training as it is."""
        train_x, _, x, y = self.data()
        chunks = [slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK)]
        model = run.model
        if has_modes(run.optimizer):
            ahead = run.batches.copy()
            model = as_judged(model, run.optimizer, (torch.from_numpy(train_x[ahead.draw()]) for _ in range(_RECALIBRATION)))
        was_training = model.training
        model.eval()
        with torch.no_grad():
            total = sum(_loss(model, x[chunk], y[chunk]).item() * len(x[chunk]) for chunk in chunks)
        model.train(was_training)
        return total / len(x)

    def save(self, run: Training) -> dict[str, Any]:
        """A training as plain data and tensors: see `surefoot.problems.Resumable`."""
        return {
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "batches": run.batches.save(),
            "measured": None if run.measured is None else run.measured.save(),
        }

    def resume(self, seed: int, saved: Mapping[str, Any]) -> Training:
        """The training that was saved."""
        run, measured = self.init(seed), saved["measured"]
        run.model.load_state_dict(as_tensors(saved["model"]))
        run.optimizer.load_state_dict(as_tensors(saved["optimizer"]))
        run.batches.resume(saved["batches"])
        if run.measured is not None:
            run.measured.resume(as_tensors(measured))
        return run

    def fleet(self, **settings: Any) -> Fleet[Any]:
        """Many trainings of this network at once; without settings, one by one where no fleet knows the optimizer.

        Args:
            **settings: Fields of `surefoot.stacked.NetworkFleet`, such as `device="cuda"`.

        Raises:
            ValueError: A setting is outside its range, the optimizer has settings that a fleet does not know, or there are
                several ranks.
        """
        if self.ranks > 1:
            raise ValueError(f"a fleet is trained by one process, got a network of {self.ranks} ranks (train single runs)")
        from surefoot.stacked import NetworkFleet
        from surefoot.stacked.optimizers import is_known

        if not settings and not is_known(self.makes):
            return OneByOne(self)
        return NetworkFleet(self, **{"gradients": self.gradients, **settings})


def network(name: str, optimizer: str = "sgd", **overrides: Any) -> Network:
    """A network of the catalogue, such as `network("digits-cnn", "adam", steps=200)`.

    Args:
        name: One of `RECIPES`.
        optimizer: One of `OPTIMIZERS`.
        **overrides: Fields of `Network` that shall differ from the recipe.
    """
    recipe = pick(RECIPES, name, optimizer)
    load, model = _BUILDERS[name]
    settings = {
        "base": recipe.bases[optimizer],
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "data": load,
        "model": model,
        "revision": recipe.revision,
    }
    return Network(name, optimizer, **{**settings, **overrides})


def _stepped(
    optimizer: optim.Optimizer, closure: Callable[[], Tensor], mean: Callable[[Tensor], Tensor] = Tensor.detach
) -> Tensor:
    """The loss of a batch, after a step on it: some optimizers take the loss into the step, others what computes it.

    What is taken into the step, and returned, is the `mean` of the losses of all who train.
    """
    if isinstance(optimizer, Backtracking):
        loss: Tensor = optimizer.step(closure)
        return loss
    loss = closure()
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    loss = mean(loss)
    if isinstance(optimizer, MoMo):
        optimizer.step(loss=loss)
    else:
        optimizer.step()
    return loss


def _loss(model: nn.Module, x: NDArray[Any], y: NDArray[Any]) -> Tensor:
    """The mean cross-entropy over examples and, in a text, over their characters."""
    scores = model(torch.from_numpy(x))
    return cross_entropy(scores.flatten(0, -2), torch.from_numpy(y).long().flatten())


def _fashion() -> Split:
    split = data.fashion_mnist()
    return split._replace(held_out_x=split.held_out_x[:2000], held_out_y=split.held_out_y[:2000])


def _characters() -> Split:
    """A few of the held-out windows, spread over all held-out modules."""
    split = data.stdlib_characters(_CONTEXT)
    every = len(split.held_out_x) // 128
    few = slice(None, 128 * every, every)
    return split._replace(held_out_x=split.held_out_x[few], held_out_y=split.held_out_y[few])


def _digits_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


_BUILDERS: dict[str, tuple[Callable[[], Split], Callable[[], nn.Module]]] = {
    "digits-mlp": (data.digits, partial(perceptron, 64, (64,), 10)),
    "digits-cnn": (data.digits, _digits_cnn),
    "breast-cancer-mlp": (data.breast_cancer, partial(perceptron, 30, (32,), 2)),
    "wine-mlp": (data.wine, partial(perceptron, 13, (32,), 3)),
    "fashion-cnn": (_fashion, partial(convolutions, 28, (16, 32), 10, kernel=5)),
    "stdlib-gpt": (_characters, partial(Transformer, data.VOCABULARY, _CONTEXT, 64, 4, 2)),
}
