"""The judgement of policies: what is tuned, kept, taken up again, and said."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from math import exp, inf, log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from policy_files import made
from surefoot import Learned, stats
from surefoot.appended import JournalError
from surefoot.cli import app
from surefoot.engine import Local
from surefoot.judge import blocks, folder, page, rows, worth
from surefoot.judge.arenas import Arena
from surefoot.judge.claims import claims
from surefoot.judge.entrants import Contestant, candidate, is_blind
from surefoot.judge.figures import duels, searches, sensitivity, shapes
from surefoot.judge.note import write_on
from surefoot.judge.rows import Key, Rows, RunRow
from surefoot.judge.study import Study
from surefoot.nmf import Factorisation, Matrices
from surefoot.policy_file import read

TINY = Factorisation("tiny", draw=Matrices(rows=12, columns=10, held_out=4), rank=2, batch_size=None, steps=30, ceiling=0.5)
RIVALS = (Contestant("constant", "bound"), Contestant("exponential", "bound"))


def arena(**changes):
    """Few runs of a small factorisation that cannot diverge."""
    defaults = {
        "name": "tiny",
        "says": "tiny matrices",
        "problem": TINY,
        "judging": tuple(range(12)),
        "tuning": (100, 101),
        "measure": "relative loss",
        "grid": (-1, 1),
        "rivals": RIVALS,
        "limits": ("bound",),
        "starts": (0.1, 1.0),
    }
    return Arena(**{**defaults, **changes})


def study(*arenas, there=None):
    """A study in memory, and the blocks that it had to train."""
    there, trained = {} if there is None else there, []

    def train(missing):
        trained.extend(missing)
        there.update({row.key: row for block in missing for row in blocks.run(block)})

    return Study(arenas, there, train), trained


def outcome(one, *entries):
    judged, _ = study(one)
    return judged.outcome(one, [candidate(entry) for entry in entries])


def _block(together):
    return blocks.Block(arena(together=together), "bound", "greedy", "greedy", (0.1, 0.5), (0, 1, 2), watched=True)


def row(final, *, before=1.0, seed=0, **others):
    return RunRow(Key("a", "plain", "p", 0.1, seed), before, final, final, **others)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20), st.floats(0.25, 4.0))
@settings(max_examples=20)
def test_losses_of_a_multiple_of_others_have_that_ratio(losses, factor):
    found = stats.ratio(np.array(losses) * factor, losses)
    assert found.mean == pytest.approx(factor)
    assert found.low <= found.mean * (1 + 1e-9)
    assert found.median == pytest.approx(factor)


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(0, 10, 0.0, 0.3085), (8, 10, 0.4439, 0.9748), (5, 5, 0.4782, 1.0)])
def test_intervals_of_shares_are_those_of_the_tables(hits, count, low, high):
    assert stats.clopper_pearson(hits, count) == pytest.approx((low, high), abs=1e-4)


@given(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=6), st.data())
def test_the_expected_best_is_the_mean_over_all_draws(losses, data):
    runs = data.draw(st.integers(1, len(losses)))
    every = [log(min(drawn)) for drawn in combinations(losses, runs)]
    array = np.array(losses)
    assert worth.expected_best(array, array, runs) == pytest.approx(np.mean(every))


def test_what_was_chosen_by_one_seed_counts_as_it_does_from_another():
    assert worth.expected_best(np.array([1.0, 2.0]), np.array([5.0, 3.0]), 2) == pytest.approx(log(5.0))


def test_a_planted_better_worse_and_equal_policy_is_called_so():
    rival = Contestant('{"is": "Exponential", "factor": 0.5}', "bound")  # It gets nowhere, at whatever rate.
    entries = ["constant", '{"is": "Exponential", "factor": 0.1}', rival.entry]
    found = outcome(arena(rivals=(rival,)), *entries)
    verdicts = [worth.ratio(worth.ours(found, entry)[1.0], found.equal[rival]).verdict for entry in entries]
    assert verdicts == ["better", "worse", "equal"]


def test_a_grid_is_extended_while_the_best_is_at_its_edge():
    judged, trained = study(one := arena(grid=(-6, -5)))
    assert judged.tune(("tiny",))[RIVALS[0]].rate > one.place(-5)
    assert any(max(block.rates) > one.place(-5) for block in trained)


def test_rates_at_which_a_run_failed_are_out():
    one = arena(rivals=(Contestant("constant"),), limits=("plain",), grid=(-1, 4))
    judged, _ = study(one)
    tuned = judged.tune(("tiny",))[Contestant("constant")]
    assert tuned.rate < one.place(4)
    assert tuned.score < 0.0


def test_another_policy_meets_the_rows_of_the_same_rivals():
    there, one = {}, arena()
    study(one, there=there)[0].outcome(one, [candidate("greedy")])
    judged, trained = study(one, there=there)
    judged.outcome(one, [candidate("greedy"), candidate("cosine")])
    assert {block.label for block in trained} == {"cosine"}


def test_rates_tuned_elsewhere_are_used_as_they_are():
    large = arena(name="large", problem=TINY, tuned_on=("tiny",), tuning=())
    judged, trained = study(arena(), large)
    found = judged.outcome(large, [candidate("greedy")])
    assert found.general == judged.tune(("tiny",))
    assert not any(block.arena.name == "large" and block.seeds != large.judging for block in trained)


def test_the_same_block_gives_the_same_rows_in_fleets_of_any_size():
    many, few = (_block(together) for together in (6, 2))
    for one, other in zip(blocks.run(many), blocks.run(few), strict=True):
        assert one.final == pytest.approx(other.final, rel=1e-5)
        assert one.rates == pytest.approx(other.rates)


def test_a_run_that_ends_above_its_start_has_failed_and_counts_with_its_start():
    assert (row(1.5).has_failed, row(1.5).has_diverged, row(1.5).value) == (True, False, 1.0)
    assert (row(inf).has_failed, row(inf).has_diverged, row(inf).value) == (True, True, 1.0)
    assert (row(0.5).has_failed, row(0.5).value) == (False, 0.5)


def test_steps_to_a_target_are_counted_where_it_was_first_met():
    assert worth.steps_to([row(0.1, curve=(0.9, 0.4, 0.6, 0.1)), row(0.5, curve=(0.9, 0.8, 0.7, 0.5))], 0.4, 100) == [50.0, inf]


def test_rows_come_back_as_they_were_also_compressed(tmp_path, monkeypatch):
    kept = [row(0.1 + seed / 3, seed=seed, curve=(1.0, 0.5), rates=(0.1,)) for seed in range(3)] + [row(inf, seed=9)]
    with Rows(tmp_path) as there:
        there.add(kept)
    assert list(Rows.read(tmp_path).values()) == kept
    monkeypatch.setattr(rows, "LARGEST", 10)
    with Rows(tmp_path) as there:
        assert there.finish().name == "runs.csv.gz"
    assert list(Rows.read(tmp_path).values()) == kept
    with Rows(tmp_path) as there:
        there.add([row(0.2, seed=10)])
        there.finish()
    assert len(Rows.read(tmp_path)) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv.gz"]


def test_a_line_that_is_not_whole_is_cut_off(tmp_path):
    with Rows(tmp_path) as there:
        there.add([row(0.1)])
    path = tmp_path / rows.NAME
    path.write_bytes(path.read_bytes() + b"tiny,bound,gree")
    with Rows(tmp_path) as there:
        assert len(there.there) == 1
        there.add([row(0.2, seed=1)])
    assert len(Rows.read(tmp_path)) == 2


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / rows.NAME).write_text("a,b\n1,2\n")
    with pytest.raises(JournalError, match="does not hold the rows of a judgement"):
        Rows(tmp_path)


CHILD = """
import os, signal, sys
from pathlib import Path
from test_judge import arena
from surefoot.judge import folder
from surefoot.engine import Local
from surefoot.judge.entrants import candidate

if __name__ == "__main__":
    folder.arenas_of = lambda on, quick=False: [arena()]
    left = int(sys.argv[2])

    def tell(block, count):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    folder.carry_out(Path(sys.argv[1]), "nmf", [candidate("greedy")], quick=False, engine=Local(1), tell=tell)
"""


def test_a_study_that_was_killed_ends_with_the_rows_of_one_that_was_not(tmp_path):
    def carry_out(place, killed_after):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        command = [sys.executable, "-c", CHILD, str(place), str(killed_after)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert carry_out(tmp_path / "killed", 3).returncode == -signal.SIGKILL
    there = len(Rows.read(tmp_path / "killed"))
    assert carry_out(tmp_path / "killed", 0).returncode == 0
    done = carry_out(tmp_path / "whole", 0)
    assert done.returncode == 0, done.stderr
    whole = Rows.read(tmp_path / "whole")
    assert 0 < there < len(whole)
    assert Rows.read(tmp_path / "killed") == whole


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nobody", "--on", "nmf"], "'nobody' is no policy"),
        (["greedy(pace=2)", "--on", "nmf"], "sets pace"),
        (['{"is": "Nothing"}'], "no policy is called 'Nothing'"),
        (["greedy", "--on", "chess"], "on must be one of 'nmf', 'networks', got 'chess'"),
        (["greedy", "--only", "unseen,seen"], "there is no arena 'seen'; choose from unseen, large"),
        ([], "name at least one policy to judge"),
        (["--redraw", "--out", "nowhere"], "there is no folder nowhere"),
        (["greedy", "--note", "mine.json"], "there is no file mine.json to note anything in"),
        (["--redraw", "--out", "."], "there are no rows in ."),
    ],
)
def test_bad_input_is_answered_in_a_sentence(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["judge", *words], env={"COLUMNS": "300"})
    assert done.exit_code in {1, 2}
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_another_study_is_refused(tmp_path):
    other = {**dict.fromkeys(("on", "quick", "definition", "surefoot"), ""), "candidates": []}
    (tmp_path / folder.NAME).write_text(json.dumps(other))
    with pytest.raises(JournalError, match="holds another study"):
        folder.carry_out(tmp_path, "nmf", [candidate("greedy")], quick=True, engine=Local(1))


def test_a_learned_policy_is_judged_under_its_checksum_and_costs_what_its_card_says(tmp_path):
    path = made(tmp_path, tier="gradient", bound=True, training={"transitions": 4000, "seed": 1})
    who = candidate(path)
    assert who.label == f"made-up@{Learned(path).card.sha256[:8]}"
    assert who.training == {"transitions": 4000, "window": 3}
    assert not is_blind(path, 30)
    found = study(one := arena())[0].outcome(one, [who])
    assert len(found.ours[who.label]["bound"][1.0]) == 12


def test_what_a_policy_was_found_to_be_worth_is_written_on_its_card(tmp_path):
    path = Path(made(tmp_path, tier="gradient", bound=True))
    weights, (_, before) = path.with_suffix(".safetensors").read_bytes(), read(path)
    found = outcome(arena(rivals=RIVALS), str(path))
    assert write_on(path, [found]) == 1
    _, card = read(path)
    assert replace(card, judged=()) == replace(before, judged=())
    assert path.with_suffix(".safetensors").read_bytes() == weights
    (row,) = card.judged
    against = found.rivals[found.best()][1.0]
    assert row["problem"] == "tiny"
    expected = worth.ratio(worth.ours(found, candidate(str(path)).label)[1.0], against)
    assert row["ratio"].startswith(f"{expected.mean:.3f} [{expected.low:.3f}, ")
    with pytest.raises(ValueError, match="was not judged there"):
        write_on(path, [])


def test_gradients_are_measured_for_those_who_look_at_them():
    assert [is_blind(entry, 100) for entry in ("cosine", "greedy(patience=3)", "hypergradient")] == [True, True, False]


@pytest.fixture(scope="module")
def searched():
    """An outcome with everything in it: a search per matrix, limits to choose from, starts."""
    rivals = (*(Contestant(entry) for entry in ("constant", "wsd", "cosine", "linear", "step")), RIVALS[0])
    return outcome(arena(searches="judging", rivals=rivals, limits=("plain", "bound"), judging=(0, 1, 2, 3)), "greedy")


def test_the_best_of_a_whole_search_is_the_best_of_its_cells(searched):
    found = worth.search(searched, "greedy")
    table = np.array([worth.values(each) for each in searched.cells.values()])
    last = [exp(worth.expected_best(column, column, len(table))) for column in table.T]
    assert last == pytest.approx(table.min(axis=0).tolist())
    assert found.budgets == (1, 2, 4, 8, 16)  # Of 30.
    means = [ratio.mean for ratio in found.ratios]
    assert means == sorted(means)


def test_claims_are_sentences_with_figures_and_verdicts(searched):
    said = claims({"tiny": searched}, "greedy")
    assert [claim.text.split(":")[0] for claim in said[:2]] == ["On tiny matrices"] * 2
    assert "4/4" in said[1].text or "/4 matrices" in said[1].text
    assert said[-1].text.startswith("One run is worth a search of")


def test_a_page_is_drawn_from_an_outcome_alone(searched):
    pytest.importorskip("vl_convert")
    from surefoot.vega import svg

    drawn = [draw([searched], ["greedy"]) for draw in (sensitivity, searches, shapes, duels)]
    assert svg({"vconcat": drawn}).startswith("<svg")
    html = page.render([searched], [candidate("greedy")], command="surefoot judge greedy")
    assert "What was to be reached" in html
    assert "://" not in html.partition("<script")[0]


def test_networks_are_judged_on_seeds_of_their_own():
    pytest.importorskip("torch")
    from surefoot.judge.nets import arenas

    for one in arenas():
        assert not set(one.judging) & set(one.tuning)
        assert (one.judging == ()) == one.name.startswith(("sgd-", "plain-sgd-", "adam-", "adamw-", "rmsprop-", "adagrad-"))
