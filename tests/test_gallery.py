"""The gallery shows every policy by the code that draws it, and the pages about schedules lead to all of them."""

import re
import sys
from pathlib import Path

import pytest

import surefoot
from surefoot.policy import Policy

DOCS = Path(__file__).parents[1] / "docs"
CARD = re.compile(r"\*\*\[.+?\]\((?P<page>[^)#]+).*?\)\*\*\n\n!\[.+?\]\((?P<picture>\S+)\)\n\n`(?P<code>.+?)`\n\n.+\n:::")
CARDS = [found.groupdict() for found in CARD.finditer((DOCS / "gallery.md").read_text("utf-8"))]


@pytest.fixture(scope="module")
def pictures():
    """The module that draws the documentation's pictures."""
    pytest.importorskip("vl_convert")
    sys.path.insert(0, str(DOCS))
    try:
        import pictures

        yield pictures
    finally:
        sys.path.remove(str(DOCS))


def test_the_code_below_each_picture_is_what_it_was_drawn_from(pictures):
    assert {Path(card["picture"]).stem.removeprefix("small-"): card["code"] for card in CARDS} == pictures.GALLERY


def test_every_policy_is_shown():
    shown = {card["code"].partition("(")[0] for card in CARDS}
    kinds = {name for name in surefoot.__all__ if hasattr(getattr(surefoot, name), "update")} - {"Policy"}
    assert shown == kinds


@pytest.mark.parametrize("card", CARDS, ids=[card["code"] for card in CARDS])
def test_each_line_makes_a_policy_and_leads_to_its_page(card):
    made = eval(card["code"], {name: getattr(surefoot, name) for name in surefoot.__all__})  # noqa: S307 - Our own page.
    assert isinstance(made, Policy)
    assert (DOCS / card["page"]).is_file()


def test_a_small_picture_is_small(pictures):
    svg = pictures.small_picture("Greedy()", pictures.losses())
    assert svg.startswith("<svg")
    assert len(svg) < 40_000
