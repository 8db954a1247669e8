"""The checks of the bounds: the same for a problem whichever its neighbours, and able to tell a rise from rounding."""

import numpy as np
import pytest

from surefoot.nmf.verification import catapult, descent, fleets, tight, tightness, watching
from surefoot.nmf.verification.rules import RULES
from surefoot.verify.run import plan


@pytest.fixture(autouse=True)
def quiet():
    """Rules that fail overflow on their way."""
    with np.errstate(all="ignore"):
        yield


def test_a_seed_is_a_problem_whichever_others_it_is_drawn_with():
    alone, together = fleets.draw([7]), fleets.draw([5, 6, 7, 8])
    assert alone.kinds[0] == together.kinds[2]
    assert alone.batch_size == together.batch_size
    for name in ("matrix", "codes", "parts", "weights", "mean", "schedule", "noise", "rate", "joint_rate"):
        assert np.array_equal(getattr(alone, name)[0], getattr(together, name)[2])


@pytest.mark.parametrize("name", RULES)
def test_what_is_found_on_a_problem_does_not_depend_on_its_neighbours(name, monkeypatch):
    monkeypatch.setattr(tightness, "SWEEPS", 3)
    alone, together = RULES[name].check(fleets.draw([2])), RULES[name].check(fleets.draw([1, 2, 3]))
    assert alone.steps[0] == together.steps[1]
    assert alone.failures[0] == together.failures[1]
    for measured, values in alone.measured.items():
        assert np.array_equal(values[0], together.measured[measured][1], equal_nan=True), measured


def test_the_kinds_sizes_and_ranks_of_problems_are_many():
    drawn = [fleets.draw([25 * fleet, 25 * fleet + 1]) for fleet in range(60)]
    shapes = {each.matrix.shape[1:] for each in drawn}
    assert len(shapes) > 55
    assert {kind for each in drawn for kind in each.kinds} == set(fleets.KINDS)
    assert {each.codes.shape[-1] for each in drawn} >= set(range(1, 9))
    assert all(each.batch_size <= each.matrix.shape[-2] / 2 for each in drawn)


def test_matrices_factors_and_weights_are_nonnegative_and_never_all_zero():
    for fleet in range(20):
        drawn = fleets.draw(range(25 * fleet, 25 * fleet + 5))
        assert min(each.min() for each in (drawn.matrix, drawn.codes, drawn.parts, drawn.weights)) >= 0.0
        assert drawn.weights.max() <= 1.0
        assert (drawn.matrix.max((-2, -1)) > 0.0).all()


def moved(factor):
    """One problem whose loss changes by this factor in a step."""
    matrix, codes, parts = np.zeros((1, 4, 5)), np.ones((1, 4, 2)), np.ones((1, 2, 5))
    return watching.watch(matrix, [(codes, parts), (codes * np.sqrt(factor), parts)])


@pytest.mark.parametrize(("factor", "failures"), [(1 + 1e-8, 1), (1 + 1e-10, 0), (1.0, 0), (0.5, 0), (np.nan, 1), (np.inf, 1)])
def test_a_rise_of_more_than_a_billionth_is_a_failure(factor, failures):
    assert moved(factor).failures.tolist() == [failures]


def test_a_rise_that_rounding_explains_is_counted_apart():
    random = np.random.default_rng(0)
    codes, parts = random.random((1, 30, 4)), random.random((1, 4, 20))
    matrix = codes @ parts
    changed = np.nextafter(codes, 2.0)
    found = watching.watch(matrix, [(codes * (1 + 1e-15), parts), (changed * (1 + 2e-15), parts)])
    assert found.failures.tolist() == [0]
    assert found.measured["rounding"].tolist() == [1]


def test_rounding_excuses_nothing_where_the_fit_is_loose():
    fleet = fleets.draw(range(25))
    codes, parts = fleet.codes, fleet.parts
    larger = np.where(watching.loss(fleet.matrix, 1.01 * codes, parts) > watching.loss(fleet.matrix, codes, parts), 1.01, 0.99)
    first = watching.loss(fleet.matrix, codes, parts)
    risen = watching.loss(fleet.matrix, larger[:, None, None] * codes, parts) > first * (1.0 + watching.RELATIVE)
    found = watching.watch(fleet.matrix, [(codes, parts), (larger[:, None, None] * codes, parts)])
    assert np.array_equal(found.failures > 0, risen)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.expects == "none"])
def test_no_rule_that_must_hold_fails(name):
    assert RULES[name].check(fleets.draw(range(50, 60))).failures.sum() == 0


STEPS = [tight.block_step, tight.a_priori_step, tight.row_step, tight.segment_step]


@pytest.mark.parametrize("step", STEPS)
def test_a_tight_start_shows_an_edge_that_is_a_thousandth_too_high_on_every_problem(step):
    fleet = fleets.draw(range(25))
    assert step(fleet, 0.999).failures.sum() == 0
    assert (step(fleet, 1.001).failures == 1).all()


def test_a_bound_that_is_a_fifth_too_high_is_found_without_a_tight_start_too(monkeypatch):
    monkeypatch.setattr(descent, "block_edge", lambda gram, **_: 1.2 * 2.0 / np.linalg.eigvalsh(gram)[..., -1])
    found = descent.alternating(fleets.draw(range(25)), descent.along_gradient(descent.block()))
    assert found.failures.sum() > 0


def test_sharpness_is_the_largest_eigenvalue_of_the_second_derivative():
    random = np.random.default_rng(3)
    matrix, codes, parts = random.random((1, 3, 4)), random.random((1, 3, 2)), random.random((1, 2, 4))

    def slope(flat):
        w, h = flat[:6].reshape(1, 3, 2), flat[6:].reshape(1, 2, 4)
        down, right, _ = descent.gradients(matrix, w, h)
        return np.concatenate([down.ravel(), right.ravel()])

    here, small = np.concatenate([codes.ravel(), parts.ravel()]), 1e-6
    hessian = np.array([(slope(here + small * way) - slope(here - small * way)) / (2 * small) for way in np.eye(14)])
    found = catapult.sharpness(matrix, codes, parts, [random])
    assert found[0] == pytest.approx(np.linalg.eigvalsh(0.5 * (hessian + hessian.T))[-1], rel=1e-5)


def test_bisection_finds_where_runs_stop_being_stable():
    limits = np.array([0.001, 0.5, 1.0, 7.0, 1e9])
    found = tightness.largest_stable(lambda multiple: multiple < limits, 5)
    assert found[1:4] == pytest.approx(limits[1:4], rel=0.01)
    assert found[0] == 0.0
    assert found[-1] == pytest.approx(32.0, rel=0.01)


def test_runs_that_collapse_onto_zero_have_failed():
    fleet = fleets.draw([0, 1])
    found = watching.fate(fleet, 0.0 * fleet.codes, fleet.parts, np.ones(2))
    assert found.failures.tolist() == found.measured["collapsed"].tolist() == [1, 1]


def test_work_is_divided_so_that_every_rule_meets_every_problem_once():
    pieces = plan(60)
    for name, rule in RULES.items():
        seeds = [seed for piece in pieces if name in piece.rules for seed in piece.seeds]
        assert sorted(seeds) == [seed for seed in range(60) if rule.concerns(seed)]


@pytest.mark.parametrize(("problems", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_number_of_problems_that_makes_no_sense_is_refused(problems, error):
    with pytest.raises(error, match="problems must be a whole number"):
        plan(problems)
