"""What a fleet measures of its gradients is what PyTorch's own gradients and parameters say."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from surefoot.networks import network  # noqa: E402


def measured(problem, seed, rates):
    """Cosine between downhill and the last move, and length of the move over that of the parameters, one run by itself."""
    run, last, seen = problem.init(seed), None, []
    for rate in rates:
        before = vector(parameter.detach() for parameter in run.model.parameters())
        run, _ = problem.step(run, rate)
        gradient = vector(parameter.grad for parameter in run.model.parameters())
        cosine = 0.0 if last is None else float(-gradient @ last / gradient.norm() / last.norm())
        last = vector(parameter.detach() for parameter in run.model.parameters()) - before
        seen.append((cosine, float(last.norm() / before.norm())))
    return seen


def vector(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).double()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("at_once", [None, 1])
def test_a_fleet_measures_what_a_single_run_shows(optimizer, at_once):
    problem = network("wine-mlp", optimizer)
    fleet = problem.fleet(gradients=True, at_once=at_once)
    runs, rates, seen = fleet.init([0, 1]), problem.base * np.array([0.5, 2.0]), []
    for _ in range(6):
        runs, signals = fleet.step(runs, rates)
        seen.append([signals["alignment"], signals["relative_step"]])
    for place, rate in enumerate(rates):
        np.testing.assert_allclose(np.array(seen)[:, :, place], measured(problem, place, [rate] * 6), rtol=1e-3, atol=1e-4)


def test_to_measure_changes_no_loss():
    problem, rates = network("wine-mlp", "adam"), np.full(2, 0.01)
    plain, watched = problem.fleet(), problem.fleet(gradients=True)
    ours, theirs = plain.init([0, 1]), watched.init([0, 1])
    for _ in range(5):
        (ours, expected), (theirs, seen) = plain.step(ours, rates), watched.step(theirs, rates)
        np.testing.assert_array_equal(seen["loss"], expected["loss"])
