"""What policies learn on and what they are judged on: cheap, reproducible, and apart."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from surefoot import zoo  # noqa: E402
from surefoot.stacked.chain import Chain  # noqa: E402
from surefoot.zoo import sources  # noqa: E402
from surefoot.zoo.bases import BASES  # noqa: E402

TRAINING, JUDGING = zoo.training(), zoo.judging()
PROBLEMS = [*TRAINING, *(judged.problem for judged in JUDGING)]
IDS = [problem.name for problem in PROBLEMS]


def source(problem):
    """The function that examples come from, and what it is told; what only changes labels is looked through."""
    load = problem.data
    while isinstance(load, partial) and load.func is sources.noisy:
        load = load.args[0]
    return (load.func, load.args) if isinstance(load, partial) else (load, ())


def kind(problem):
    """What kind of model it is."""
    return problem.model.func if isinstance(problem.model, partial) else problem.model


def along(axis):
    return [judged.problem for judged in JUDGING if judged.axis == axis]


def size(problem):
    return sum(parameter.numel() for parameter in problem.model().parameters())


def depth(problem):
    return sum(parameter.dim() > 1 for parameter in problem.model().parameters())


def test_no_two_problems_have_one_name():
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_every_problem_has_a_base_that_was_searched_for(problem):
    assert problem.base == BASES[problem.name]


def test_nothing_is_left_of_problems_that_are_gone():
    assert set(BASES) == set(IDS)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_problems_can_be_sent_to_other_processes(problem):
    assert pickle.loads(pickle.dumps(problem)).init(0).batches.size == problem.init(0).batches.size  # noqa: S301 - our own


def test_every_axis_is_judged_and_no_other():
    assert {judged.axis for judged in JUDGING} == set(zoo.AXES)


def test_size_is_judged_on_networks_wider_or_deeper_than_any_perceptron_in_training():
    same = [problem for problem in TRAINING if kind(problem) is zoo.perceptron]
    for problem in along("size"):
        assert kind(problem) is zoo.perceptron
        assert size(problem) > max(map(size, same)) or depth(problem) > max(map(depth, same))


def test_architecture_is_judged_on_kinds_that_training_does_not_have():
    assert {kind(problem) for problem in TRAINING}.isdisjoint(map(kind, along("architecture")))


def test_data_are_judged_on_sources_that_training_does_not_have():
    assert {source(problem)[0] for problem in TRAINING}.isdisjoint(source(problem)[0] for problem in along("data"))


def test_made_up_data_of_training_are_never_judged_on():
    made_up = {source(problem) for problem in TRAINING if source(problem)[1]}
    assert made_up.isdisjoint(source(judged.problem) for judged in JUDGING)


def test_horizon_is_judged_on_longer_trainings():
    assert min(problem.steps for problem in along("horizon")) > max(problem.steps for problem in TRAINING)


def test_optimizers_are_judged_that_training_does_not_have():
    assert {problem.optimizer for problem in TRAINING}.isdisjoint(problem.optimizer for problem in along("optimizer"))


def test_training_has_each_of_its_optimizers_often():
    optimizers = [problem.optimizer for problem in TRAINING]
    assert set(optimizers) == {"plain-sgd", "sgd", "adam", "adamw"}
    assert min(map(optimizers.count, optimizers)) >= 6


def test_nearly_all_of_training_is_stacked_by_hand():
    slow = [problem.name for problem in TRAINING if Chain.of(problem.model()) is None]
    assert slow == ["digits-rows", "descriptions-transformer"]


@pytest.mark.parametrize("make", [sources.teacher, sources.mixture])
def test_made_up_data_depend_on_their_number_alone(make):
    once, other = make(7, 9, 3), make(8, 9, 3)
    again = make.__wrapped__(7, 9, 3)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(once, again, strict=True))
    assert not np.array_equal(once.train_x, other.train_x)
    assert set(once.train_y) == set(once.held_out_y) == {0, 1, 2}


def test_noise_is_in_a_share_of_the_labels_to_train_on_and_in_no_other():
    clean, noisy = sources.mixture(7, 9, 4), sources.noisy(partial(sources.mixture, 7, 9, 4), 0.2)
    assert np.mean(clean.train_y != noisy.train_y) == pytest.approx(0.2 * 3 / 4, abs=0.03)
    np.testing.assert_array_equal(clean.held_out_y, noisy.held_out_y)


def test_no_description_that_is_held_out_is_trained_on():
    read, held_out = (
        {bytes(row) for row in rows} for rows in (sources.descriptions().train_x, sources.descriptions().held_out_x)
    )
    assert len(held_out - read) > 0.95 * len(held_out)
