"""The tutorial shows the pictures that its script draws."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vl_convert")

from surefoot.ratings import Ratings

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script, which draws into a folder of its own."""
    monkeypatch.syspath_prepend(str(DOCS))
    import tutorial_pictures

    monkeypatch.setattr(tutorial_pictures, "FOLDER", tmp_path)
    yield tutorial_pictures
    del sys.modules["tutorial_pictures"]


def left_behind() -> dict[str, Any]:
    """Small stand-ins for what the page's examples leave behind."""
    random = np.random.default_rng(0)
    images, parts = np.eye(12, 784), random.random((2, 3))
    history = SimpleNamespace(bound_history_=[0.01, 0.002], rate_history_=[0.01, 0.0])
    return {
        "others": images,
        "wardrobe": SimpleNamespace(components_=images, transform=lambda x: x, inverse_transform=lambda x: x),
        "library": SimpleNamespace(components_=parts),
        "texts": SimpleNamespace(words=("one", "two", "three")),
        **dict.fromkeys(("one_number", "movie", "generosity", "predicted"), 0.5),
        "stars_off": lambda prediction: prediction,
        "share": np.array([0.2, 0.9]),
        "ratings": Ratings(random.random((4, 2)).astype(np.float32), ("Alien (1979)", "Big (1988)")),
        "line": history,
        "greedy": history,
    }


def test_every_picture_of_the_page_is_drawn_and_no_other(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pictures, "variables", lambda _: left_behind())
    pictures.main()
    shown = re.findall(r"\]\(\.\./images/nmf/([\w.-]+)\)", (DOCS / "nmf" / "tutorial.md").read_text("utf-8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(shown)


def test_a_pages_variables_are_what_its_examples_leave_behind(pictures: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Two\n\n```python\n>>> one = 1\n>>> one\n1\n```\n\nand\n\n```python\n>>> two = one + 1\n```\n")
    assert pictures.variables(page)["two"] == 2


def test_a_sheet_has_a_square_for_every_dark_dot(pictures: Any) -> None:
    images = np.zeros((3, 784))
    images[0, 0] = images[1, 783] = images[2, 5] = 2.0
    squares = pictures.sheet(images, across=2)["data"]["values"]
    assert [(square["x"], square["y"]) for square in squares] == [(0, 0), (59, 27), (5, 32)]
