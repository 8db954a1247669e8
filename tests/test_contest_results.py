"""What is told of the comparison is what its committed rows say."""

from __future__ import annotations

import re
import runpy
from html import escape
from pathlib import Path

import pytest

from surefoot.contest import page
from surefoot.contest.outcome import BEST, REGIMES

ROOT = Path(__file__).parent.parent
TABLES = runpy.run_path(str(ROOT / "docs" / "contest_tables.py"))
SAMPLED = {"greedy-decay": ("linear", "schedule-free"), "greedy": ("constant", "line-search")}
"""Opponents whose verdicts are made again here; those of all others take a minute."""
BLOCK = re.compile(r"<!-- contest: .*? -->\n(.*?)<!-- end -->", re.DOTALL)


@pytest.fixture(scope="module")
def results():
    return TABLES["Results"]()


@pytest.mark.parametrize("path", TABLES["TOLD"], ids=lambda path: path.name)
def test_sentences_and_tables_are_those_of_the_rows(results, path):
    text = path.read_text("utf-8")
    assert TABLES["filled"](text, results) == text, "run python docs/contest_tables.py"
    assert BLOCK.search(text)


@pytest.mark.parametrize("path", TABLES["TOLD"], ids=lambda path: path.name)
def test_counts_in_running_text_stand_in_the_tables_too(path):
    text = path.read_text("utf-8")
    made, written = " ".join(BLOCK.findall(text)), BLOCK.sub("", text)
    counts = re.findall(r"\b\d+/(?:38|34)\b", written)
    assert [count for count in counts if count not in made] == []


def test_the_page_begins_with_the_sentences_of_the_rows(results):
    for sentence in page.in_brief_of(results.found, page.FIRST[0]):
        assert escape(sentence) in results.html


def test_the_page_counts_what_the_rows_say(results):
    for candidate, opponents in SAMPLED.items():
        for regime in REGIMES:
            for opponent, each in zip(opponents, results.found.headlines(candidate, opponents, [regime]), strict=True):
                assert results.counts[candidate, opponent, each.regime] == (f"{each.hits}/{each.tasks}", each.lower)


def test_every_baseline_is_in_the_tables(results):
    names = [BEST, *(rival.name for rival in results.found.study.rivals if rival.kind != "candidate")]
    for candidate in SAMPLED:
        assert [line.split(" | ")[0].removeprefix("| ") for line in results.opponents(candidate).splitlines()[2:]] == names


def test_the_page_can_be_sent_by_mail(results):
    assert len(results.html.encode()) < 5_000_000
