"""Made-up matrices are what they are said to be."""

import numpy as np
import pytest

from surefoot.nmf.synthetic import known_rank

SMALL = {"rows": 60, "columns": 40, "rank": 5}


@pytest.mark.parametrize("noise", [0.0, 0.1, 3.0])
def test_no_entry_is_negative(noise):
    matrix = known_rank(**SMALL, noise=noise, seed=1)
    assert matrix.shape == (60, 40)
    assert matrix.dtype == np.float32
    assert matrix.min() >= 0.0


def test_noise_is_in_units_of_the_signals_spread():
    quiet, loud = (known_rank(rows=300, columns=200, rank=5, noise=noise, seed=2) for noise in (0.0, 0.1))
    untouched = loud > 0.0
    assert (loud - quiet)[untouched].std() == pytest.approx(0.1 * quiet.std(), rel=0.1)


def test_a_seed_makes_the_same_matrix_every_time():
    assert np.array_equal(known_rank(**SMALL, seed=3), known_rank(**SMALL, seed=3))
    assert not np.array_equal(known_rank(**SMALL, seed=3), known_rank(**SMALL, seed=4))


@pytest.mark.parametrize(
    ("setting", "value"), [("rows", 0), ("columns", -1), ("rank", 0), ("noise", -0.1), ("noise", float("nan"))]
)
def test_what_cannot_be_made_is_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be"):
        known_rank(**{**SMALL, setting: value}, seed=0)
