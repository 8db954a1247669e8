"""The command that checks the bounds: kept, killed, taken up again, judged, and shown."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import browsing
from surefoot import vega
from surefoot.appended import JournalError
from surefoot.cli import app
from surefoot.nmf.verification.rules import RULES
from surefoot.verify import page as pages
from surefoot.verify import run
from surefoot.verify.journal import Journal, encoded, read
from surefoot.verify.pictures import drawings, drawn

pytest.importorskip("vl_convert")

SMALL = ["verify-nmf", "--problems", "40", "--workers", "2"]
PIECES = len(run.plan(40))
ROWS = "surefoot-nmf.jsonl"
DOCS = Path(__file__).parents[1] / "docs" / "nmf"


def surefoot(*words, cwd, **settings):
    """The command as a user would give it."""
    environment = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-m", "surefoot", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False, **settings)


def redraw(rows, page, *words):
    """The same from what is kept in a folder, and the page into another."""
    kept = ["--rows", str(rows / ROWS), "--page", str(page / "page.html")]
    return CliRunner().invoke(app, ["verify-nmf", "--redraw", *kept, *words], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A verification that nothing happened to, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = surefoot(*SMALL, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


@pytest.fixture(scope="module")
def verdicts(undisturbed):
    return run.judge(read(undisturbed[0] / ROWS))


@pytest.fixture
def html(verdicts):
    return pages.render(verdicts, command="surefoot verify-nmf --problems 40")


def figures(folder):
    """Every line, in an order of its own."""
    return sorted(encoded(line) for line in read(folder / ROWS))


def test_every_expectation_is_met(undisturbed, verdicts):
    assert "40 random problems" in undisturbed[1].stdout
    assert "Every expectation is met." in undisturbed[1].stdout
    assert [verdict.rule.name for verdict in verdicts] == list(RULES)
    assert all(verdict.is_met for verdict in verdicts)


def test_it_ends_with_the_page(undisturbed):
    folder, done = undisturbed
    assert done.stdout.splitlines()[-1] == f"Page: {folder.resolve() / 'surefoot-nmf.html'}"
    assert (folder / "surefoot-nmf.html").stat().st_size > 10_000


def test_json_holds_the_figures_of_the_table(undisturbed, verdicts, tmp_path):
    found = json.loads(redraw(undisturbed[0], tmp_path, "--json").stdout)
    assert found["is_met"]
    assert {row["rule"]: row["failures"] for row in found["rules"]} == {each.rule.name: each.failures for each in verdicts}


def test_a_killed_verification_takes_up_where_it_stopped(tmp_path, undisturbed):
    process = subprocess.Popen(
        [sys.executable, "-m", "surefoot", *SMALL], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert "problems 0 to 24" in process.stderr.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with (tmp_path / ROWS).open("a") as file:
        file.write('{"rule":"block","seeds":[')  # As if it had been killed in the middle of writing.
    left = len(run.plan(40, read(tmp_path / ROWS)))
    assert 0 < left < PIECES
    again = surefoot(*SMALL, cwd=tmp_path)
    assert again.returncode == 0
    assert f"{PIECES - left} of {PIECES} pieces are in {ROWS} already." in again.stderr
    assert figures(tmp_path) == figures(undisturbed[0])


def test_ctrl_c_keeps_what_is_found_and_says_how_to_go_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "surefoot", *SMALL], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert "problems 0 to 24" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert 0 < len(run.plan(40, read(tmp_path / ROWS))) < PIECES


def test_what_is_there_is_not_checked_again(undisturbed):
    lines = read(undisturbed[0] / ROWS)
    assert run.plan(40, lines) == []
    assert {piece.seeds for piece in run.plan(41, lines)} == {(40,)}


def test_a_finding_is_the_same_whoever_makes_it(undisturbed):
    line = next(line for line in read(undisturbed[0] / ROWS) if line["rule"] == "segment" and line["seeds"][0] == 25)
    assert run.check(run.Piece(("segment",), tuple(range(25, 40)))) == [line]


@pytest.mark.parametrize(
    ("rule", "failures", "unmet"), [("block", 1, True), ("clip-alone", 0, True), ("as-set", 1, False), ("as-set", 0, False)]
)
def test_the_exit_code_says_whether_every_expectation_is_met(tmp_path, undisturbed, rule, failures, unmet):
    lines = [
        {**line, "failures": [failures] * len(line["seeds"])} if line["rule"] == rule else line
        for line in read(undisturbed[0] / ROWS)
    ]
    (tmp_path / ROWS).write_text("".join(map(encoded, lines)))
    done = redraw(tmp_path, tmp_path)
    assert done.exit_code == int(unmet)
    assert (f"NOT met: {rule}." in re.sub(r"\s+", " ", done.output)) == unmet
    assert "unmet" in (tmp_path / "page.html").read_text() or not unmet


def test_rules_that_were_never_checked_are_not_met(tmp_path):
    (tmp_path / ROWS).write_text("")
    assert redraw(tmp_path, tmp_path).exit_code == 1


def test_findings_of_another_version_are_made_again(undisturbed):
    lines = read(undisturbed[0] / ROWS)
    assert len(run.plan(40, [{**line, "version": 0} for line in lines])) == PIECES
    assert len(run.plan(40, [{**line, "with": "numpy 0"} for line in lines])) == PIECES


def test_the_documentation_shows_what_its_rows_say():
    found = run.judge(read(DOCS / "verification.jsonl.xz"), strict=False)
    text = (DOCS / "verification.md").read_text("utf-8")
    table = text.partition("% tables\n")[2].partition("% end\n")[0]
    assert table.strip() == "\n".join(pages.as_markdown(found)).strip()
    assert pages.summary(found) in text
    assert all(verdict.is_met for verdict in found)
    assert max(verdict.problems for verdict in found) == 10_000


def test_two_processes_cannot_write_to_one_file(tmp_path):
    with Journal(tmp_path / ROWS), pytest.raises(JournalError, match="another process is writing to"):
        Journal(tmp_path / ROWS)


@pytest.mark.parametrize("text", ["step,loss\n1,2\n", "[1]\n", '{"rule":1}\n{"rule"\n{}\n'])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path, text):
    (tmp_path / ROWS).write_text(text)
    done = CliRunner().invoke(app, ["verify-nmf", "--problems", "1", "--rows", str(tmp_path / ROWS)])
    assert done.exit_code == 1
    assert "is not a journal, one JSON object on each line; name another file" in done.stderr
    assert (tmp_path / ROWS).read_text() == text


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--problems", "0"], 2, "surefoot: problems must be a whole number, 1 or more, got 0"),
        (["--rows", "nowhere/rows.jsonl"], 1, "surefoot: the folder of nowhere/rows.jsonl does not exist; make it first"),
        (["--redraw"], 2, "surefoot: there is no file surefoot-nmf.jsonl; name one that `surefoot verify-nmf` made"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(tmp_path, monkeypatch, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["verify-nmf", *words])
    assert done.exit_code == code
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_pictures_are_svg_on_white(verdicts):
    drawing = drawings(verdicts)
    assert list(drawing) == ["tightness", "noise", "catapult"]
    assert all(svg.startswith("<svg") and 'fill="white"' in svg for svg in drawing.values())


def test_the_page_loads_nothing_and_stays_small(html):
    without_bundle = html.replace(vega.converter().javascript_bundle(), "")
    assert not re.search(r"https?://", without_bundle)
    assert len(html.encode()) < 2_000_000


def test_the_page_opens_in_a_browser_light_and_dark(browser, html, tmp_path, verdicts):
    with browsing.opened(browser, html, tmp_path) as page:
        for number in range(len(drawn(verdicts))):
            assert page.locator(f"#figure-{number} svg .mark-rect path").count() > 5
        assert page.locator("tbody tr th[scope=row]").count() >= len(RULES)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert page.evaluate("[...document.querySelectorAll('figure')].every(each => each.scrollWidth <= each.clientWidth)")
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector("html[data-drawn=dark]")
        assert page.locator(f"#figure-2 .mark-rect path[fill='{vega.DARK[0]}']").count() > 0


def test_pointing_at_a_cell_reads_its_numbers(browser, html, tmp_path):
    with browsing.opened(browser, html, tmp_path) as page:
        page.locator("#figure-1 svg .mark-rect path").first.hover()
        tooltip = page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()
        assert "runs that failed" in tooltip.inner_text()
