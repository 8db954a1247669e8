"""One contract, every problem."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from math import isfinite
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from surefoot import data
from surefoot.batches import Batches
from surefoot.catalogue import PROBLEMS, problem
from surefoot.recipes import RECIPES

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

NEEDS_FASHION = pytest.mark.skipif(
    not data.fashion_mnist_available(), reason="needs the Debian package dataset-fashion-mnist, or an earlier download"
)


def pairs(*optimizers: str) -> list[Any]:
    """Every problem with those of these optimizers that it offers."""
    return [
        pytest.param(name, optimizer, marks=NEEDS_FASHION if name == "fashion-cnn" else ())
        for name, recipe in PROBLEMS.items()
        for optimizer in optimizers
        if optimizer in recipe.bases
    ]


every_problem = pytest.mark.parametrize(("name", "optimizer"), pairs("sgd", "adam"))


def losses(made: Any, scales: list[float], seed: int = 0) -> list[float]:
    run, seen = made.init(seed), []
    for scale in scales:
        run, signals = made.step(run, scale * made.base)
        seen.append(signals["loss"])
    return seen


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of every batch that is drawn from here on."""
    seen: list[list[int]] = []
    draw = Batches.draw

    def noted(self: Batches) -> Any:
        rows = draw(self)
        seen.append(rows.tolist())
        return rows

    monkeypatch.setattr(Batches, "draw", noted)
    return seen


@every_problem
def test_the_same_seed_gives_the_same_losses(name: str, optimizer: str) -> None:
    made = problem(name, optimizer)
    assert losses(made, [1.0] * 5) == losses(made, [1.0] * 5)


@every_problem
def test_another_seed_gives_other_losses(name: str, optimizer: str) -> None:
    made = problem(name, optimizer)
    assert losses(made, [1.0] * 3, seed=0) != losses(made, [1.0] * 3, seed=1)


@every_problem
def test_rates_change_neither_the_start_nor_the_batches(name: str, optimizer: str, draws: list[list[int]]) -> None:
    made = problem(name, optimizer)
    slow, fast = losses(made, [0.1, 0.2, 0.3]), losses(made, [2.0, 1.0, 0.5])
    assert slow[0] == fast[0]
    assert slow[1:] != fast[1:]
    assert draws[:3] == draws[3:]


def test_optimizers_share_the_start_and_the_batches() -> None:
    assert len({losses(problem("wine-mlp", optimizer), [0.0, 0.0])[1] for optimizer in RECIPES["wine-mlp"].bases}) == 1


@every_problem
def test_evaluating_leaves_the_training_as_it_is(name: str, optimizer: str) -> None:
    made = problem(name, optimizer)
    run, undisturbed = made.init(0), losses(made, [1.0] * 4)
    for loss in undisturbed:
        first = made.held_out(run)
        assert isfinite(first)
        assert made.held_out(run) == first
        run, signals = made.step(run, made.base)
        assert signals["loss"] == loss


@every_problem
def test_nothing_random_is_shared_with_the_process(name: str, optimizer: str) -> None:
    made = problem(name, optimizer)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002 - it must be left alone
    expected = losses(made, [1.0] * 3)
    made.held_out(made.init(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    torch.rand(7)
    assert losses(made, [1.0] * 3) == expected


@pytest.mark.parametrize("name", ["digits-mlp", "stdlib-gpt", "digits-nmf"])
def test_a_training_can_be_copied_and_goes_on_alike(name: str) -> None:
    made = problem(name)
    run, _ = made.step(made.init(0), made.base)
    twin = copy.deepcopy(run)
    assert made.step(run, made.base)[1] == made.step(twin, made.base)[1]


@every_problem
def test_a_problem_can_be_sent_to_another_process(name: str, optimizer: str) -> None:
    made = problem(name, optimizer, steps=7)
    sent = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes
    assert (sent.name, sent.optimizer, sent.base, sent.steps) == (name, optimizer, made.base, 7)
    assert losses(sent, [1.0]) == losses(made, [1.0])


@pytest.mark.parametrize("optimizer", RECIPES["digits-mlp"].bases)
def test_the_loss_falls_at_the_default_rate(optimizer: str) -> None:
    made = problem("digits-mlp", optimizer)
    seen = losses(made, [1.0] * made.steps)
    assert all(map(isfinite, seen))
    assert fmean(seen[-20:]) < 0.1 * fmean(seen[:5])


@pytest.mark.parametrize(("name", "optimizer"), pairs("sgd", "rmsprop"))
def test_the_loss_falls_within_a_tenth_of_the_budget(name: str, optimizer: str) -> None:
    made = problem(name, optimizer)
    seen = losses(made, [1.0] * max(made.steps // 10, 30))
    assert fmean(seen[-5:]) < 0.8 * seen[0]


@pytest.mark.parametrize("scale", [1e6, 1e36, 1e60, float("inf")])
@pytest.mark.parametrize("optimizer", RECIPES["digits-mlp"].bases)
def test_a_huge_rate_is_seen_in_the_loss_and_raises_nothing(optimizer: str, scale: float) -> None:
    made = problem("digits-mlp", optimizer)
    seen = losses(made, [scale] * 4)
    assert not isfinite(seen[-1]) or seen[-1] > seen[0]


@pytest.mark.parametrize("name", ["stdlib-gpt", "digits-cnn"])
def test_a_diverged_training_can_still_be_evaluated(name: str) -> None:
    made = problem(name)
    run = made.init(0)
    for _ in range(3):
        run, _ = made.step(run, 1e30)
    assert not made.held_out(run) < 10.0


def test_the_held_out_loss_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from surefoot import networks

    made = problem("digits-mlp")
    run = made.init(0)
    whole = made.held_out(run)
    monkeypatch.setattr(networks, "_CHUNK", 100)
    assert made.held_out(run) == pytest.approx(whole, rel=1e-6)


def test_an_epoch_sees_every_row_once() -> None:
    batches = Batches(rows=10, size=3, seed=5)
    for _ in range(4):
        assert len({int(row) for _ in range(3) for row in batches.draw()}) == 9


def test_a_batch_is_at_most_all_the_rows() -> None:
    made = problem("wine-mlp", batch_size=10_000)
    run = made.init(0)
    assert sorted(run.batches.draw()) == list(range(len(data.wine().train_x)))


def test_a_training_keeps_its_mode_when_it_is_evaluated() -> None:
    made = problem("wine-mlp")
    run = made.init(0)
    for training in (True, False):
        run.model.train(training)
        made.held_out(run)
        assert run.model.training is training


def test_the_transformer_does_not_look_ahead() -> None:
    from surefoot.networks import network

    model = network("stdlib-gpt").init(0).model
    codes = torch.from_numpy(data.stdlib_characters().held_out_x[:2].copy())
    changed = codes.clone()
    changed[:, 40:] = 5
    assert torch.allclose(model(codes)[:, :40], model(changed)[:, :40], atol=1e-6)
    assert not torch.allclose(model(codes)[:, 40:], model(changed)[:, 40:], atol=1e-2)


def test_every_recipe_can_be_built_and_its_optimizers_exist() -> None:
    from surefoot.networks import _BUILDERS, OPTIMIZERS

    assert list(_BUILDERS) == list(RECIPES)
    assert all(set(recipe.bases) <= set(OPTIMIZERS) for recipe in RECIPES.values())


@pytest.mark.parametrize(("name", "optimizer"), pairs("sgd", "adam", "adamw", "rmsprop", "adagrad"))
def test_a_problem_is_what_the_table_says(name: str, optimizer: str) -> None:
    made, recipe = problem(name, optimizer), PROBLEMS[name]
    assert (made.name, made.optimizer, made.base) == (name, optimizer, recipe.bases[optimizer])
    assert (made.steps, made.revision, made.batch_size) == (recipe.steps, recipe.revision, recipe.batch_size)


def test_settings_of_a_problem_can_be_overridden() -> None:
    made = problem("wine-mlp", "adam", steps=5, base=0.5, batch_size=8)
    assert (made.steps, made.base, made.batch_size) == (5, 0.5, 8)


def test_an_unknown_problem_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no problem is called 'mnist'; choose from digits-mlp, .*, digits-nmf$"):
        problem("mnist")


@pytest.mark.parametrize("name", ["digits-nmf", "digits-mlp"])
def test_an_optimizer_that_a_problem_does_not_offer_is_named_with_those_it_does(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be trained with 'lion'; choose from sgd"):
        problem(name, "lion")


@pytest.mark.parametrize("setting", [{"steps": 0}, {"base": -1.0}, {"base": float("nan")}, {"batch_size": 0}])
@pytest.mark.parametrize("name", ["wine-mlp", "digits-nmf"])
def test_a_setting_outside_its_range_is_refused(name: str, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        problem(name, **setting)


def test_the_catalogue_loads_neither_frameworks_nor_data() -> None:
    check = "import sys, surefoot.catalogue; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
