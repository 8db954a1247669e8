"""Installed text becomes the same matrix every time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from surefoot import texts
from surefoot.data import DataMissing

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("sklearn")


def test_the_standard_library_is_thousands_of_documents_and_words() -> None:
    matrix, words, names = texts.docstrings()
    assert matrix.shape == (len(names), len(words))
    assert len(names) > 2000
    assert len(words) > 2000
    assert matrix.dtype == np.float32
    assert matrix.data.min() > 0


def test_every_document_has_the_length_1() -> None:
    matrix = texts.docstrings().matrix
    squares = np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()
    assert set(np.round(squares, 4)) <= {0.0, 1.0}


def test_documents_are_named_after_where_they_stand_and_come_in_order() -> None:
    names = texts.docstrings().names
    assert "argparse" in names
    assert "argparse.ArgumentParser" in names
    assert names.index("argparse") < names.index("argparse.ArgumentParser") < names.index("zipfile.ZipFile")


def test_documents_are_the_same_in_every_process() -> None:
    """No order of a set or of a folder shows."""
    import subprocess

    code = "from surefoot.texts import _documents, _folder; print(list(_documents({'': _folder('json')}).items()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(list(texts._documents({"": texts._folder("json")}).items()))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that cannot be imported, but can be read."""
    folder = tmp_path / "written_by_hand"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def written(package: Path) -> dict[str, str]:
    folder = texts._folder(package.name)
    return {name: text for text, name in texts._documents({f"{package.name}.": folder}).items()}


def test_docstrings_are_found_wherever_they_stand_and_nothing_is_run(package: Path) -> None:
    about = [f"{number} " + "word " * 20 for number in range(5)]
    package.joinpath("__init__.py").write_text(f'"{about[0]}"\nraise RuntimeError\n')
    package.joinpath("inner.py").write_text(
        f'class A:\n  "{about[1]}"\n  if True:\n    async def f(self):\n      "{about[2]}"\n      def g(): "{about[3]}"\n'
        f'  def short(self): "too few words"\n  def again(self): "{about[1]}"\n'
    )
    package.joinpath("tests").mkdir()
    package.joinpath("tests", "test_it.py").write_text(f'"{about[4]}"')
    name = package.name
    assert written(package) == {
        name: about[0],
        f"{name}.inner.A": about[1],
        f"{name}.inner.A.f": about[2],
        f"{name}.inner.A.f.g": about[3],
    }


def test_examples_of_code_are_left_out(package: Path) -> None:
    prose = "word " * 20
    package.joinpath("__init__.py").write_text(f'"""{prose}\n\n  >>> import numpy\n  >>> def f():\n  ...     pass\n"""')
    assert set(written(package)[package.name].split()) == {"word"}


@pytest.mark.parametrize("broken", [b"def f(:", b"\xff\xfe", b"'\0'"])
def test_a_file_that_is_no_python_is_passed_over(package: Path, broken: bytes) -> None:
    package.joinpath("__init__.py").write_text("")
    package.joinpath("template.py").write_bytes(broken)
    package.joinpath("whole.py").write_text(f'"{"word " * 20}"')
    assert list(written(package)) == [f"{package.name}.whole"]


@pytest.mark.parametrize("name", ["no_such_package", "this"])
def test_a_package_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DataMissing, match=f"needs the package {name} installed"):
        texts.docstrings((name,))


def test_a_python_without_sources_is_reported_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(texts.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(DataMissing, match="needs 1000 of them or more, got 0"):
        texts.docstrings.__wrapped__()
