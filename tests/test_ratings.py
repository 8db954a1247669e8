"""Ratings are the ones that everybody else has, and are fetched with care."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import ratings
from surefoot.data import DataMissing

if TYPE_CHECKING:
    from pathlib import Path

needs_movielens = pytest.mark.skipif(not ratings.movielens_available(), reason="needs MovieLens (see docs/problems.md)")
needs_package = pytest.mark.skipif(not ratings._downloads(), reason="needs the file of r-cran-dslabs in the cache")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with neither the package nor a download; the download to come."""
    monkeypatch.setattr(ratings, "_ROOT", tmp_path / "no-package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ratings.movielens.cache_clear()
    return tmp_path / "surefoot" / "r-cran-dslabs_0.7.4-1_all.deb"


@pytest.fixture(scope="module")
def package() -> bytes:
    """The Debian package's file, read before `bare` takes it away."""
    return ratings._downloads()[0].read_bytes()


@needs_movielens
def test_there_are_as_many_users_movies_and_ratings_as_there_should() -> None:
    table, titles = ratings.movielens()
    assert table.shape == (671, 9066)
    assert len(titles) == 9066
    assert np.isfinite(table).sum() == 100_004
    assert set(table[np.isfinite(table)]) == {half / 2 for half in range(1, 11)}


@needs_movielens
def test_movies_have_the_ratings_that_were_given_to_them() -> None:
    """The mean of the most often rated one, from the ratings of the set as GroupLens publishes it."""
    table, titles = ratings.movielens()
    most = np.isfinite(table).sum(axis=0).argmax()
    assert titles[most] == "Forrest Gump (1994)"
    assert np.nanmean(table[:, most]) == pytest.approx(4.054, abs=5e-4)


@given(st.integers(0, 2**32), st.floats(0.01, 0.99))
def test_every_rating_is_in_one_half_of_the_split(seed: int, share: float) -> None:
    table = np.where(np.random.default_rng(seed).random((6, 5)) < 0.5, np.float32(np.nan), np.float32(3.5))
    train, held_out = ratings.Ratings(table, tuple("abcde")).split(seed, share=share)
    there = np.isfinite(table).astype(int)
    assert np.array_equal(np.isfinite(train.table).astype(int) + np.isfinite(held_out.table), there)
    assert np.isfinite(held_out.table).sum() == round(share * there.sum())
    assert train.table.dtype == held_out.table.dtype == np.float32
    assert np.array_equal(np.fmax(train.table, held_out.table), table, equal_nan=True)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_that_holds_out_nothing_or_all_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must lie strictly between 0 and 1"):
        ratings.Ratings(np.ones((2, 2), np.float32), ("a", "b")).split(0, share=share)


@pytest.mark.parametrize("answer", [URLError("no route to host"), [BytesIO(b"<html>moved</html>")], [BytesIO(b"!<arch>\n")]])
def test_without_package_download_and_network_the_user_is_told_what_to_do(
    bare: Path, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setattr(ratings, "urlopen", Mock(side_effect=answer))
    assert not ratings.movielens_available()
    with pytest.raises(
        DataMissing, match=r"could not be fetched.*connect to the internet once, install .* or run `apt-get download"
    ):
        ratings.movielens()
    assert not bare.exists()


@needs_package
def test_a_download_is_kept_and_fetched_again_when_damaged(bare: Path, monkeypatch: pytest.MonkeyPatch, package: bytes) -> None:
    fetch = Mock(side_effect=lambda *_, **__: BytesIO(package))
    monkeypatch.setattr(ratings, "urlopen", fetch)
    first = ratings.movielens()
    ratings.movielens.cache_clear()
    assert np.array_equal(ratings.movielens().table, first.table, equal_nan=True)
    assert fetch.call_count == 1
    assert [path.name for path in bare.parent.iterdir()] == [bare.name]

    bare.write_bytes(package[: len(package) // 2])
    ratings.movielens.cache_clear()
    ratings.movielens()
    assert fetch.call_count == 2
    assert bare.read_bytes() == package


@needs_package
def test_other_data_under_that_name_are_refused(bare: Path, monkeypatch: pytest.MonkeyPatch, package: bytes) -> None:
    monkeypatch.setattr(ratings, "urlopen", Mock(return_value=BytesIO(package)))
    monkeypatch.setattr(ratings, "_SHA256", "0" * 64)
    with pytest.raises(DataMissing, match="must have the SHA-256 0000"):
        ratings.movielens()
    assert not bare.exists()


@needs_package
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    bare: Path, monkeypatch: pytest.MonkeyPatch, package: bytes, tmp_path: Path
) -> None:
    monkeypatch.setattr(ratings, "urlopen", Mock(return_value=BytesIO(package)))
    (tmp_path / "surefoot").write_text("a file where the folder should be")
    assert len(ratings.movielens().titles) == 9066
