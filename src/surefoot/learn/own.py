"""Problems in a file of a user's."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

SLOTS = 64
"""How many trainings of each problem run side by side."""
_NEEDED = ("name", "optimizer", "base", "steps", "revision", "init", "step", "held_out")


def load(on: str) -> tuple[list[Any], str]:
    """What `my_problem.py:Problem` names, as a list, and the checksum of that file.

    The file is run, as any program of its author's would be.

    Raises:
        ValueError: There is no such file or name, or the file cannot be run.
    """
    path, _, name = on.rpartition(":")
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"there is no file {file}; name one, and what it defines, as my_problem.py:Problem")
    module = _run(file)
    if not name.isidentifier() or not hasattr(module, name):
        there = [each for each in vars(module) if not each.startswith("_")]
        raise ValueError(f"{file} defines no {name!r}; it defines {', '.join(there) or 'nothing'}")
    found = getattr(module, name)
    if callable(found) and not (is_problem(found) and not isinstance(found, type)):
        try:
            found = found()
        except Exception as error:
            raise ValueError(
                f"{on} cannot be called without arguments: {error} (name an object, or a function of none)"
            ) from error
    listed = list(found) if isinstance(found, (list, tuple)) else [found]
    if not listed:
        raise ValueError(f"{on} must be a problem or several, got none")
    return listed, hashlib.sha256(file.read_bytes()).hexdigest()


def is_problem(found: Any) -> bool:
    """Whether it has what problems and fleets have."""
    return all(hasattr(found, name) for name in _NEEDED)


def _run(file: Path) -> Any:
    name = file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} cannot be run; name a file of Python, as my_problem.py:Problem")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # Dataclasses look there for what their annotations mean.
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
        if before is not None:
            sys.modules[name] = before
    return module
