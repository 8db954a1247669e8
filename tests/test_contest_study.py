"""The comparison: its plan, its rows, a quick look at all of it, and the page."""

import json
import time
from dataclasses import replace
from math import inf, isnan, nan

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from browsing import CHROMIUM, opened
from surefoot import schedule
from surefoot.appended import JournalError
from surefoot.cli import app
from surefoot.contest import blocks, range_test
from surefoot.contest.cells import FULL, Grid, Plan, Wanted
from surefoot.contest.outcome import BEST, REGIMES, Outcome
from surefoot.contest.page import in_brief_of, render
from surefoot.contest.peers import TransformersGreedy
from surefoot.contest.rivals import FOUND, RIVALS, Rival, pick
from surefoot.contest.rows import CellName, ContestRow, Rows, RunKey
from surefoot.contest.study import carry_out, of_folder, ready, study_of
from surefoot.engine import Local, WorkError

SMALL = Plan(tuning=(1, 2), test=(3, 4), extension=(2, 4))
GRID = Grid(0.001, 0, 2)
WSD = next(rival for rival in RIVALS if rival.name == "wsd")


def command(*words):
    return CliRunner().invoke(app, ["contest", *map(str, words)], env={"COLUMNS": "240", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The folder of a quick look, and what the command said."""
    folder = tmp_path_factory.mktemp("contest")
    found = command("run", "--quick", "--out", folder, "--json")
    assert found.exit_code == 0, found.output
    return folder, json.loads(found.stdout)


def outcome(folder):
    study, lacking = of_folder(folder)
    assert lacking == []
    return Outcome(study, Rows.read(folder, study.definitions))


def made(plan, grid, losses, rival=WSD):
    """The rows that a plan asks for, round by round, where a run's loss depends on its rate."""
    rows, rounds = {}, []
    while runs := plan.wanted(rival, grid, rows):
        rounds.append({run.key.rate for run in runs})
        rows |= {
            run.key: ContestRow(run.key, losses(run.key.rate), *([1.0, 1.0] if run.is_long else [nan, nan]), (1.0,), (1.0,))
            for run in runs
        }
    return rows, rounds


def test_a_plan_tunes_first_and_compares_at_four_rates_then():
    rows, rounds = made(SMALL, GRID, lambda rate: abs(np.log(rate / 0.00316228)) + 0.1)
    assert rounds == [{0.001, 0.00316228, 0.01}, {0.001, 0.00316228, 0.000316228, 0.0316228}]
    assert SMALL.tuned(WSD, GRID, rows) == 1
    assert {row.key.rate for row in rows.values() if row.is_long} == {0.00316228}


@pytest.mark.parametrize(("losses", "top"), [(lambda rate: 1.0 / rate, 6), (lambda rate: rate, -4), (lambda _: inf, -4)])
def test_a_grid_is_extended_while_the_best_is_at_its_edge_but_not_for_ever(losses, top):
    rows, _ = made(SMALL, GRID, losses)
    assert SMALL.tuned(WSD, GRID, rows) == top


def test_a_rate_at_which_a_run_diverged_ranks_last():
    rows, _ = made(SMALL, GRID, lambda rate: inf if rate == 0.00316228 else rate)
    assert SMALL.tuned(WSD, GRID, rows) != 1


def test_a_rival_that_finds_its_rate_is_not_tuned():
    rival = next(rival for rival in RIVALS if rival.finds)
    assert SMALL.wanted(rival, GRID, {}) == [Wanted(RunKey(rival.name, FOUND, seed), True, True) for seed in (3, 4)]


def test_seeds_that_are_compared_are_none_of_those_of_tuning():
    assert len(FULL.test) == 10
    assert not set(FULL.test) & set(FULL.tuning)


def test_a_grid_without_rates_is_refused():
    with pytest.raises(ValueError, match="a grid of rates must hold at least one, got the places 2 to 1"):
        Grid(0.1, 2, 1)


def test_unknown_names_are_refused_with_those_there_are():
    assert "there is no task 'mnist'; choose from digits-mlp" in command("run", "--task", "mnist").stderr
    assert "rival must be one of 'greedy'" in command("run", "--rival", "adam").stderr
    assert "there are no rows in nowhere" in command("redraw", "--out", "nowhere").stderr


def test_a_task_without_its_data_is_named_and_skipped(monkeypatch):
    monkeypatch.setattr(
        type(study_of().tasks[0]), "missing", lambda task: f"{task.name}: lost" if task.name == "digits-cnn" else None
    )
    study, lacking = ready(study_of(quick=True))
    assert [task.name for task in study.tasks] == ["digits-mlp", "modules-letters", "modules-told-apart"]
    assert lacking == ["digits-cnn: lost"]
    with pytest.raises(ValueError, match="no task has its data"):
        ready(replace(study_of(quick=True), tasks=study_of(tasks=["digits-cnn"]).tasks))


def test_rows_of_a_changed_rival_or_task_are_not_mixed_with_others(tmp_path):
    with Rows(tmp_path, {"rival wsd": "1"}):
        pass
    with pytest.raises(JournalError, match="holds runs of another rival wsd than that of today"):
        Rows(tmp_path, {"rival wsd": "2"})
    (tmp_path / "contest.json").write_text('{"format": 99, "definitions": {}}')
    with pytest.raises(JournalError, match="holds rows of format 99, and this version reads 1"):
        Rows(tmp_path, {})
    (tmp_path / "contest.json").write_text("[]")
    with pytest.raises(JournalError, match="does not say which study this is"):
        Rows(tmp_path, {})


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    with Rows(tmp_path, {}), pytest.raises(JournalError, match="another process is writing"):
        Rows(tmp_path, {})


def test_rows_come_back_as_they_were(tmp_path):
    row = ContestRow(RunKey("wsd", 0.316228, 7), inf, nan, 0.25, (1.5, inf), (0.5, 0.25), 2.5, 0.125)
    with Rows(tmp_path, {}) as rows:
        rows.add(CellName("digits-mlp", "sgd"), [row])
    (found,) = Rows.read(tmp_path, {})[CellName("digits-mlp", "sgd")].values()
    assert repr(found) == repr(row)
    (tmp_path / "rows" / "digits-mlp.sgd.parquet").write_bytes(b"PAR1")
    with pytest.raises(JournalError, match="does not hold the rows of a comparison"):
        Rows.read(tmp_path, {})


def test_rows_of_before_runs_were_timed_are_read_as_not_timed(tmp_path):
    cell, path = CellName("digits-mlp", "sgd"), tmp_path / "rows" / "digits-mlp.sgd.parquet"
    with Rows(tmp_path, {}) as rows:
        rows.add(cell, [ContestRow(RunKey("wsd", 0.1, 7), 0.5, seconds=3.0)])
    pl.read_parquet(path).drop("seconds").write_parquet(path)
    (found,) = Rows.read(tmp_path, {})[cell].values()
    assert found.final == 0.5
    assert isnan(found.seconds)


def test_every_run_of_a_study_is_timed(quick):
    folder, _ = quick
    found = outcome(folder)
    seconds = [row.seconds for rows in found.there.values() for row in rows.values()]
    assert min(seconds) > 0.0
    assert f"{len(seconds):,} of the runs are timed: " in render(found, lacking=[], command="")


def test_the_peer_is_its_own_class_stepped_with_every_loss():
    from torch import nn, optim, zeros
    from transformers.optimization import GreedyLR

    losses = (np.sin(np.arange(80)) + 80 - np.arange(80)).tolist()
    theirs = GreedyLR(optim.SGD([nn.Parameter(zeros(1))], lr=0.05))
    rates = []
    for loss in losses:
        theirs.step(loss)
        rates.append(theirs.optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 3
    ours = [state.scale * 0.05 for state in schedule(TransformersGreedy(0.05), losses)]
    assert np.ravel([np.ravel(rate)[0] for rate in ours[-len(rates) :]]).tolist() == pytest.approx(rates)


def test_a_range_test_finds_where_the_loss_of_a_parabola_falls_fastest():
    rates = np.geomspace(1e-3, 10.0, 100)
    weight, losses = 1.0, []
    for rate in rates:
        losses.append(weight * weight)
        weight -= rate * 2.0 * weight
    assert 0.01 < range_test.steepest(losses, rates.tolist()) < 0.5
    assert range_test.steepest([1.0, nan], [0.1, 1.0]) == 0.1


def test_every_rival_has_a_policy_for_any_budget():
    for rival in RIVALS:
        assert rival.policy(1, 0.1).init().scale >= 0.0
        assert rival.says
    assert [rival.name for rival in pick(["cosine", "greedy"])] == ["greedy", "cosine"]


def test_a_schedule_against_its_copy_is_equal_everywhere_and_a_planted_worse_one_is_found(tmp_path):
    copies = [Rival(name, "schedule", name, "cosine") for name in ("cosine", "copy")]
    worse = Rival("worse", "candidate", "stops too early", "cosine(end=1.0)")
    study = replace(study_of(quick=True, tasks=["modules-told-apart"]), rivals=(*copies, worse))
    for block in study.missing(lambda _: {}):
        assert not block.is_long
    with Rows(tmp_path, study.definitions) as rows:
        while waiting := study.missing(rows.of):
            for block in waiting:
                rows.add(block.cell, blocks.run(block))
    found = Outcome(study, Rows.read(tmp_path, study.definitions))
    for regime in REGIMES:
        if regime != "E":
            (verdict,) = found.verdicts("copy", "cosine", regime).values()
            assert (verdict.label, verdict.whole.ratio) == ("equal", pytest.approx(1.0, abs=1e-5))
    (verdict,) = found.verdicts("worse", "cosine", "D-half").values()
    assert verdict.whole.seeds == 3
    assert {name for _, name in found.best.items()} <= {"cosine", "copy"}


def test_a_diverged_run_is_a_row_like_any_other():
    study = study_of(quick=True, tasks=["digits-mlp"], rivals=["constant"])
    (block, *_) = study.missing(lambda _: {})
    runs = tuple((rival, run._replace(key=run.key._replace(rate=1e20))) for rival, run in block.runs[:2])
    rows = blocks.run(block._replace(runs=runs))
    assert [row.final for row in rows] == [inf, inf]


def test_a_quick_look_compares_every_regime_and_makes_no_claim(quick):
    _, said = quick
    assert {each["regime"] for each in said} == {regime.name for regime in REGIMES.values()}
    assert {(each["candidate"], each["opponent"]) for each in said} == {("greedy", BEST), ("greedy-decay", BEST)}
    assert all("a quick look, which makes no claim" in each["sentence"] for each in said)


def test_a_finished_study_trains_nothing_more_and_is_read_back(quick):
    folder, said = quick
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "rows").glob("*.parquet")}
    trained = []
    study, _ = of_folder(folder)
    assert carry_out(folder, study, engine=Local(1), tell=lambda *each: trained.append(each)) is False
    assert trained == []
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "rows").glob("*.parquet")} == before
    assert json.loads(command("redraw", "--out", folder, "--json").stdout) == said


def test_a_study_that_was_stopped_goes_on(tmp_path):
    words = ["run", "--quick", "--task", "modules-told-apart", "--rival", "cosine", "--rival", "greedy", "--out", tmp_path]
    stopped = command(*words, "--minutes", "0")
    assert "Stopped after 0 minutes" in stopped.stderr
    assert "the same command goes on from there" in stopped.stderr
    assert "greedy vs" in command(*words).stdout


def test_a_study_stops_with_the_block_that_is_finished_when_its_time_is_up(tmp_path):
    study, told, began = study_of(quick=True, tasks=["modules-told-apart"], rivals=["cosine", "greedy"]), [], time.monotonic()

    def tell(_block, left, _rows):
        told.append((time.monotonic() - began, left))

    assert carry_out(tmp_path, study, engine=Local(1), seconds=0.3, tell=tell) is True
    *before, (last, left) = told
    assert all(seconds < 0.35 for seconds, _ in before)
    assert last > 0.29
    assert left > 0


def fails_under_sgd(block, place):
    """Stands in for training a block."""
    if block.cell.optimizer == "sgd":
        raise RuntimeError("there is something wrong with sgd")
    return blocks.run(block, place)


def test_a_block_that_fails_costs_its_own_runs_and_those_that_wait_for_them(tmp_path, monkeypatch):
    study = study_of(quick=True, tasks=["modules-told-apart"], rivals=["cosine"])
    monkeypatch.setattr(blocks, "run", fails_under_sgd)
    with pytest.raises(WorkError, match="there is something wrong with sgd") as told:
        carry_out(tmp_path, study, engine=Local(1))
    assert {failure.item.cell.optimizer for failure in told.value.failures} == {"sgd"}
    with Rows(tmp_path, study.definitions) as kept:
        assert {block.cell.optimizer for block in study.missing(kept.of)} == {"sgd"}


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_is_drawn_in_a_browser_and_its_table_sorts_and_filters(quick, browser, tmp_path):
    folder, said = quick
    html = render(outcome(folder), lacking=["one-task: its data are lost"], command="surefoot contest run --quick")
    assert len(html) < 5_000_000
    with opened(browser, html, tmp_path) as page:
        text = page.inner_text("body")
        (briefly, *_) = in_brief_of(outcome(folder), "greedy-decay")
        assert briefly in text
        assert said[0]["sentence"] in page.text_content("body")
        assert "Skipped one-task: its data are lost" in text
        assert page.locator("figure svg").count() >= 4
        page.locator("summary").last.click()
        section = page.locator("section", has=page.get_by_role("heading", name="Every cell"))
        table = section.locator("table.sortable")
        section.locator("input[type=search]").fill("adamw cosine")
        assert table.locator("tbody tr:visible").count() == 4
        table.locator("th", has_text="end, tuned").click()
        ends = [float(cell) for cell in table.locator("tbody tr:visible td:nth-child(5)").all_inner_texts()]
        assert ends == sorted(ends)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_fits_a_phone(quick, browser, tmp_path):
    folder, _ = quick
    html = render(outcome(folder), lacking=[], command="surefoot contest run --quick")
    with opened(browser, html, tmp_path, width=390) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        histories = page.locator("section", has=page.get_by_role("heading", name="Loss histories")).locator("svg")
        assert histories.bounding_box()["width"] <= 390
