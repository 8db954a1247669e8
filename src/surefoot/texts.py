"""Installed text as a matrix of documents by words, sparse and nonnegative."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.data import DataMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("numpy", "scipy", "sklearn", "torch")
"""Packages with much to read, which `surefoot[compare]` installs."""

_LEAST_WORDS = 20
_LEAST_DOCUMENTS = 1000
# Other projects' files; then tests, what newer versions of Python have lost, tables, and programs.
_FOREIGN = {"site-packages", "dist-packages", "_vendor", "ensurepip"}
_SKIPPED = _FOREIGN | {"test", "tests", "testing", "distutils", "encodings", "idlelib", "lib2to3", "turtledemo"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_EXAMPLE = re.compile(r"^\s*(>>>|\.\.\.).*$", re.MULTILINE)


class Texts(NamedTuple):
    """Documents by words, weighed by TF-IDF.

    Attributes:
        matrix: SciPy's CSR, float32, nonnegative; every row has the length 1, or 0 if all of its words are rare.
        words: The words, one a column, in alphabetic order.
        names: Where each document stands, such as "torch.nn.functional.relu".
    """

    matrix: Any
    words: tuple[str, ...]
    names: tuple[str, ...]


@cache
def docstrings(packages: tuple[str, ...] = ()) -> Texts:
    """Docstrings of the standard library, and of `packages`, weighed by TF-IDF.

    A document is the docstring of one module, class or function: 20 words or more, each text once. Modules are parsed, never
    imported. A word has three letters or more, stands in three documents or more and in no more than 30% of them, and is none
    of scikit-learn's English stop words; examples of code are left out. The result is the same wherever the same versions of
    Python and of the packages are installed: about 2,900 by 3,200 for `docstrings()`, in a few seconds, and 17,000 by 11,000
    for `docstrings(LIBRARIES)`, in half a minute.

    Args:
        packages: Names of installed packages, such as `LIBRARIES`.

    Raises:
        DataMissing: A package is not installed, or its sources and Python's hold too few docstrings.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    documents = _documents({"": Path(sysconfig.get_path("stdlib"))} | {f"{name}.": _folder(name) for name in packages})
    if len(documents) < _LEAST_DOCUMENTS:
        raise DataMissing(
            f"docstrings needs {_LEAST_DOCUMENTS} of them or more, got {len(documents)} (are there Python sources?)"
        )
    weigh = TfidfVectorizer(
        stop_words="english",
        token_pattern=r"[a-z]{3,}",  # noqa: S106 - a pattern of words
        min_df=3,
        max_df=0.3,
        sublinear_tf=True,
        dtype=np.float32,
    )
    matrix = weigh.fit_transform(documents)
    return Texts(matrix, tuple(weigh.get_feature_names_out()), tuple(documents.values()))


def _documents(folders: dict[str, Path]) -> dict[str, str]:
    """The name of each text, in the order of files and lines: the first where a text stands twice.

    Folders come by what their modules' names begin with.
    """
    documents: dict[str, str] = {}
    # What the sources do that newer versions of Python frown upon is none of the reader's business.
    with warnings.catch_warnings(action="ignore"):
        for prefix, folder in folders.items():
            for file in _sources(folder):
                module = prefix + ".".join(file.relative_to(folder).with_suffix("").parts)
                for name, text in _texts_of(file, module.removesuffix(".__init__")):
                    documents.setdefault(text, name)
    return documents


def _folder(package: str) -> Path:
    """Where a package lies, found without importing it."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise DataMissing(f"docstrings needs the package {package} installed, got none (install it, or leave it out)")
    return Path(found.submodule_search_locations[0])


def _sources(folder: Path) -> list[Path]:
    """Its Python files in the order of their names, but what `_SKIPPED` names."""
    files = (file for file in folder.rglob("*.py") if _SKIPPED.isdisjoint(file.relative_to(folder).parts))
    return sorted(files, key=lambda file: file.relative_to(folder).parts)


def _texts_of(file: Path, module: str) -> Iterator[tuple[str, str]]:
    # Templates and examples of errors are no Python.
    with suppress(SyntaxError, ValueError, OSError):
        yield from _texts_below(ast.parse(file.read_bytes()), module)


def _texts_below(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """The name and text of each docstring that is long enough, in the order of lines."""
    if isinstance(node, _DOCUMENTED):
        text = _EXAMPLE.sub("", ast.get_docstring(node, clean=False) or "")
        if len(text.split()) >= _LEAST_WORDS:
            yield name, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _DOCUMENTED):
            yield from _texts_below(child, f"{name}.{child.name}")  # type: ignore[union-attr]
        elif isinstance(child, _STATEMENTS):
            yield from _texts_below(child, name)
