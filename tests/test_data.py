"""Data are complete, split once and for all, and fetched with care."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest

from surefoot import data

if TYPE_CHECKING:
    from pathlib import Path

datasets = pytest.importorskip("sklearn.datasets")

needs_package = pytest.mark.skipif(
    not all(path.exists() for path in data._package_files()), reason="needs the Debian package dataset-fashion-mnist"
)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with neither the package nor a cache; the cache file to come."""
    monkeypatch.setattr(data, "_PACKAGE", tmp_path / "no-package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "surefoot" / "fashion-mnist.npz"


@pytest.fixture(scope="module")
def genuine() -> Any:
    """The package's own arrays, read before `bare` takes it away."""
    return data._packaged()


def openml(pixels: Any, labels: Any) -> Mock:
    """Stands in for scikit-learn's `fetch_openml`: numbers as float64, labels as objects."""
    return Mock(side_effect=lambda *_, **__: (pixels.astype(np.float64), labels.astype(str).astype(object)))


@pytest.mark.parametrize(
    ("load", "train", "held_out", "features", "classes"),
    [
        (data.digits, 1348, 449, 64, 10),
        (data.breast_cancer, 427, 142, 30, 2),
        (data.wine, 134, 44, 13, 3),
        pytest.param(
            data.fashion_mnist,
            60_000,
            10_000,
            784,
            10,
            marks=pytest.mark.skipif(not data.fashion_mnist_available(), reason="needs Fashion-MNIST"),
        ),
    ],
)
def test_a_table_has_the_rows_columns_and_classes_it_should(
    load: Any, train: int, held_out: int, features: int, classes: int
) -> None:
    split = load()
    assert [part.shape for part in split] == [(train, features), (train,), (held_out, features), (held_out,)]
    assert split.train_x.dtype == split.held_out_x.dtype == np.float32
    assert set(split.train_y) == set(split.held_out_y) == set(range(classes))


@pytest.mark.parametrize(
    ("load", "source"),
    [(data.digits, "load_digits"), (data.breast_cancer, "load_breast_cancer"), (data.wine, "load_wine")],
)
def test_every_row_is_in_one_half_of_the_split(load: Any, source: str) -> None:
    """Rows are matched by the ranks of their values, which no scaling changes."""
    split, original = load(), getattr(datasets, source)(return_X_y=True)[0]
    rows = np.concatenate([split.train_x, split.held_out_x])
    assert sorted(map(tuple, _ranks(rows))) == sorted(map(tuple, _ranks(original.astype(np.float32))))


def _ranks(x: Any) -> Any:
    return np.stack([np.unique(column, return_inverse=True)[1] for column in x.T], axis=1).tolist()


@pytest.mark.parametrize("load", [data.breast_cancer, data.wine])
def test_measurements_are_standardised_by_the_training_rows_alone(load: Any) -> None:
    split = load()
    assert split.train_x.mean(axis=0) == pytest.approx(0.0, abs=1e-5)
    assert split.train_x.std(axis=0) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(split.held_out_x.mean(axis=0)).max() > 0.01


def test_pixels_lie_between_0_and_1() -> None:
    for part in (data.digits().train_x, data.digits().held_out_x):
        assert (part.min(), part.max()) == (0.0, 1.0)


def test_data_are_loaded_once_in_a_process() -> None:
    assert data.digits() is data.digits()


def test_characters_are_followed_by_the_next_ones() -> None:
    split = data.stdlib_characters()
    for x, y in ((split.train_x, split.train_y), (split.held_out_x, split.held_out_y)):
        assert x.dtype == np.uint8
        assert x.shape == y.shape
        assert x.shape[1] == 64
        assert np.array_equal(x.ravel()[1:], y.ravel()[:-1])
    assert 1e6 < split.train_x.size < 4e6
    assert split.train_x.max() < data.VOCABULARY


def test_whole_modules_are_held_out() -> None:
    assert not set(data._READ.split()) & set(data._HELD_OUT.split())


def test_every_printable_character_has_a_code_of_its_own() -> None:
    text = "\n" + "".join(map(chr, range(32, 127)))
    codes = data.windows((text + "\t\x00\xe9").encode("latin-1") + b" ", 1)[0].ravel()
    assert codes.tolist() == [*range(96), 96, 96, 96]


def test_missing_sources_are_reported_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(data.DataMissing, match="this Python must have the sources"):
        data._source("argparse")


def test_without_package_cache_and_network_the_user_is_told_what_to_do(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of scikit-learn's `fetch_openml` but the network itself."""
    urlopen = Mock(side_effect=URLError("no route to host"))
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", urlopen)
    monkeypatch.setattr("sklearn.datasets._openml.time.sleep", Mock())
    assert not data.fashion_mnist_available()
    with pytest.raises(data.DataMissing, match=r"no route to host.*install the Debian package dataset-fashion-mnist, or"):
        data._fashion_mnist()
    assert urlopen.called
    assert not bare.exists()


def test_other_data_under_that_name_are_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "fetch_openml", openml(np.zeros((2, 784), np.uint8), np.zeros(2, np.uint8)))
    with pytest.raises(data.DataMissing, match="must have the SHA-256"):
        data._fashion_mnist()
    assert not bare.exists()


@needs_package
@pytest.mark.parametrize("damage", ["cut short", "empty", "other data", "other arrays"])
def test_a_download_is_kept_and_fetched_again_when_damaged(
    bare: Path, monkeypatch: pytest.MonkeyPatch, genuine: Any, damage: str
) -> None:
    fetch = openml(*genuine)
    monkeypatch.setattr(datasets, "fetch_openml", fetch)
    monkeypatch.setattr(np, "savez_compressed", np.savez)  # Five times as fast.
    data._fashion_mnist()
    pixels, labels = data._fashion_mnist()
    assert fetch.call_count == 1
    assert data.fashion_mnist_available()
    assert np.array_equal(pixels, genuine[0])
    assert np.array_equal(labels, genuine[1])
    assert [path.name for path in bare.parent.iterdir()] == [bare.name]

    if damage == "cut short":
        bare.write_bytes(bare.read_bytes()[:10_000_000])
    elif damage == "empty":
        bare.write_bytes(b"")
    elif damage == "other data":
        np.savez(bare, pixels=pixels[::-1], labels=labels)
    else:
        np.savez(bare, images=pixels[:1])
    assert data._sound(*data._fashion_mnist())
    assert fetch.call_count == 2
    assert data._sound(*data._cached())


@needs_package
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    bare: Path, monkeypatch: pytest.MonkeyPatch, genuine: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(datasets, "fetch_openml", openml(*genuine))
    (tmp_path / "surefoot").write_text("a file where the folder should be")
    assert data._sound(*data._fashion_mnist())
    assert not bare.exists()


@needs_package
def test_a_damaged_package_is_passed_over(bare: Path, monkeypatch: pytest.MonkeyPatch, genuine: Any) -> None:
    bare.parent.mkdir()
    data._keep(*genuine)
    monkeypatch.setattr(data, "_packaged", lambda: (np.zeros((1, 784), np.uint8), np.zeros(1, np.uint8)))
    assert data._sound(*data._fashion_mnist())
