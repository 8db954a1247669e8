"""The store of runs, the loop that fills it, and what is read out of it."""

import dataclasses
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from surefoot import Constant, Greedy, stats
from surefoot.loop import train
from surefoot.runs import CHUNK_ROWS, Run, Store, StoreError, Trial, evaluation_steps

TRIAL = Trial("valley", 1, "sgd", {"is": "Constant", "scale": 1.0}, 0.1, 100, 5, 0, "0.1.0")


def a_run(seed=0, steps=100, *, held_out=(5.0, 4.0, 3.0, 2.0, 1.0), status="finished"):
    rng = np.random.default_rng(seed)
    loss, rate = rng.random((2, steps), dtype=np.float32)
    at = np.array(evaluation_steps(steps, len(held_out)), np.float32)
    return Run(dataclasses.replace(TRIAL, seed=seed), loss, rate, at, np.array(held_out, np.float32), status, 1.5)


def assert_same(run, other):
    assert (run.trial, run.status, run.seconds) == (other.trial, other.status, other.seconds)
    for name in ("loss", "rate", "held_out_step", "held_out"):
        np.testing.assert_array_equal(getattr(run, name), getattr(other, name))


@pytest.mark.parametrize("steps", [5, CHUNK_ROWS, 2 * CHUNK_ROWS + 7])
def test_a_run_comes_back_as_it_went_in(tmp_path, steps):
    run = a_run(steps=steps)
    run.loss[1] = np.nan
    with Store(tmp_path / "runs.sqlite") as store:
        store.add(run)
    with Store(tmp_path / "runs.sqlite") as store:
        assert_same(store.get(run.trial), run)
        assert run.trial in store
        assert a_run(1).trial not in store
        assert store.get(a_run(1).trial) is None


def test_runs_are_read_in_the_order_they_were_finished(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        for seed in (2, 0, 1):
            store.add(a_run(seed))
        assert [run.trial.seed for run in store] == [2, 0, 1]


def test_a_run_is_kept_once(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store, Store(tmp_path / "runs.sqlite") as other:
        store.add(a_run())
        other.add(a_run())
        assert len(store) == len(other) == 1


def test_a_key_changes_with_everything_that_determines_a_run():
    other = ("hill", 2, "adam", {"is": "Constant", "scale": 0.5}, 0.2, 101, 6, 1, "0.2.0", "3fa94c", 2)
    keys = {
        dataclasses.replace(TRIAL, **{field.name: value}).key
        for field, value in zip(dataclasses.fields(TRIAL), other, strict=True)
    }
    assert len(keys | {TRIAL.key}) == 1 + len(other)


def test_a_damaged_run_is_not_passed_off_as_a_good_one(tmp_path):
    path = tmp_path / "runs.sqlite"
    with Store(path) as store:
        store.add(a_run())
    connection = sqlite3.connect(path)
    (data,) = connection.execute("SELECT data FROM chunk WHERE series = 'steps'").fetchone()
    connection.execute("UPDATE chunk SET data = ? WHERE series = 'steps'", (bytes([data[0] ^ 1]) + data[1:],))
    connection.commit()
    connection.close()
    with Store(path) as store, pytest.raises(StoreError, match="is damaged: its checksum does not match"):
        store.get(TRIAL)


def not_a_database(path):
    path.write_bytes(b"step,loss\n" * 200)


def another_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cooking (recipe TEXT)")
    connection.close()


def a_newer_store(path):
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_a_database, "is not a store of surefoot runs; name another file"),
        (another_database, "is a database, but not a store of surefoot runs"),
        (a_newer_store, "is a store of version 99, and this surefoot reads version 1"),
        (lambda path: path.mkdir(), "cannot be used: unable to open database file"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path, make, message):
    path = tmp_path / "runs.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=message):
        Store(path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StoreError, match="the folder of .*nowhere/runs.sqlite does not exist; make it first"):
        Store(tmp_path / "nowhere" / "runs.sqlite")


def test_writers_that_are_killed_leave_whole_runs_only(tmp_path):
    code = textwrap.dedent("""
        import sys
        from test_runs import a_run
        from surefoot.runs import Store
        with Store(sys.argv[1]) as store:
            for seed in range(10**6):
                store.add(a_run(seed, steps=20_000))
                print(seed, flush=True)
    """)
    path, environment = tmp_path / "runs.sqlite", {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    acknowledged = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, env=environment) as writer:
            for _ in range(3):
                acknowledged = max(acknowledged, int(writer.stdout.readline()))
            writer.send_signal(signal.SIGKILL)
    with Store(path) as store:
        runs = list(store)
    assert [run.trial.seed for run in runs] == list(range(len(runs)))
    assert len(runs) > acknowledged
    assert_same(runs[acknowledged], a_run(acknowledged, steps=20_000))


@dataclasses.dataclass(frozen=True)
class Valley:
    """A noisy parabola: x is the training, and its height is the loss."""

    name: str = "valley"
    optimizer: str = "sgd"
    base: float = 0.1
    steps: int = 50
    revision: int = 1

    def init(self, seed):
        return 10.0, np.random.default_rng(seed)

    def step(self, run, rate):
        x, rng = run
        return (x - rate * (2.0 * x + rng.normal()), rng), {"loss": x * x}

    def held_out(self, run):
        return run[0] ** 2


def test_training_writes_one_row_a_step():
    rows = list(train(Valley(), Constant(0.5)))
    assert [row.step for row in rows] == list(range(50))
    assert {row.rate for row in rows} == {0.05}
    assert rows[-1].loss < rows[0].loss == 100.0


def test_training_evaluates_after_the_steps_it_was_asked_for():
    seen = []
    list(train(Valley(), Constant(), steps=9, evaluate=lambda *pair: seen.append(pair), evaluate_at=frozenset({3, 9})))
    assert [step for step, _ in seen] == [3, 9]


def test_training_is_paired_by_seed():
    first, second = (list(train(Valley(), Greedy(), seed=3)) for _ in range(2))
    assert first == second != list(train(Valley(), Greedy(), seed=4))


def test_training_ends_where_the_loss_is_not_finite():
    with np.errstate(over="ignore"):
        rows = list(train(Valley(), Constant(), base=1e200))
    assert not math.isfinite(rows[-1].loss)
    assert len(rows) < 50


@pytest.mark.parametrize(
    ("settings", "message"), [({"base": -1.0}, "base must be finite and 0 or more"), ({"steps": 0}, "steps")]
)
def test_training_refuses_what_makes_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        next(train(Valley(), Constant(), **settings))


def test_the_final_loss_is_the_mean_of_the_last_three():
    assert stats.final_loss(a_run()) == 2.0
    assert stats.final_loss(a_run(status="diverged")) == math.inf


def test_a_cell_is_judged_by_its_paired_runs():
    better = [a_run(seed, held_out=(4.0, 2.0 - seed / 10, 2.0, 2.0)) for seed in range(3)]
    cosine = [a_run(seed, held_out=(4.0, 4.0, 4.0, 4.0)) for seed in range(3)]
    broken = [*cosine[:2], a_run(2, held_out=(4.0,), status="diverged")]
    cell = stats.cell("valley", "sgd", {"broken": broken, "cosine": cosine, "better": better})
    assert [row.policy for row in cell.summaries] == ["better", "cosine", "broken"]
    best, reference, worst = cell.summaries
    assert cell.reference == "cosine"
    assert cell.target == pytest.approx(4.08)
    assert best.steps_to_target == 25.0
    assert best.versus == pytest.approx(-0.508, abs=0.001)
    assert best.spread == pytest.approx(np.std([2.0, 5.9 / 3, 5.8 / 3], ddof=1), rel=1e-5)
    assert (reference.versus, reference.diverged) == (0.0, 0)
    assert (worst.final, worst.versus, worst.diverged) == (math.inf, math.inf, 1)


def test_a_policy_against_its_copy_is_equal():
    cell = stats.cell("valley", "sgd", {"one": [a_run(0), a_run(1)], "two": [a_run(0), a_run(1)]})
    one, two = cell.summaries
    assert dataclasses.replace(one, policy="") == dataclasses.replace(two, policy="")
    assert two.versus == 0.0


def test_a_missed_target_is_infinite():
    cell = stats.cell("valley", "sgd", {"good": [a_run(held_out=(1.0,) * 3)], "bad": [a_run(held_out=(2.0,) * 3)]})
    assert cell.summaries[1].steps_to_target == math.inf
    assert cell.summaries[1].versus == pytest.approx(1.0)
