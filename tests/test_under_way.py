"""Trials of a comparison whose worker, or whose driver, was killed go on from their checkpoint."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from surefoot import compare, crews, keeping, under_way
from surefoot.contest import blocks
from surefoot.contest.study import study_of
from surefoot.engine import Limits, Local, Lost
from surefoot.nmf import Factorisation
from surefoot.runs import Store
from surefoot.stacked import NetworkFleet

STEPS, CUT = 40, 25
KINDS = {"digits-nmf": Factorisation, "wine-mlp": NetworkFleet}
"""A problem whose trials are trained alone, and one whose trials are trained as fleets; with what makes their steps."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def planned(problem):
    return compare.plan([problem], ["sgd"], ["greedy"], seeds=1, steps=STEPS)


def figures_of(runs):
    """Everything about runs but how long they took, to the last bit."""
    return [
        (run.trial.key, run.status, *(part.tobytes() for part in (run.loss, run.rate, run.held_out_step, run.held_out)))
        for run in runs
    ]


def undisturbed(problem):
    return figures_of(crews.run_crew(planned(problem).trials))


def noted(file, cut, trials, folder):
    """`run_crew`, with a checkpoint after each step, and a note of each in a file; at the `cut`-th of all, the worker dies."""
    kind = KINDS[trials[0].problem]
    made = kind.step

    def step(*given):
        with file.open("a") as notes:
            notes.write(f"{os.getpid()}\n")
        if len(pids(file)) == cut:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return made(*given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kind, "step", step)
        patched.setattr(under_way, "Keeper", at_every_step)
        return crews.run_crew(trials, folder)


def at_every_step(path, identity, **settings):
    return keeping.Keeper(path, identity, **{**settings, "seconds": 0.0, "share": 1.0})


def pids(file):
    """Who made the steps so far."""
    return file.read_text().split() if file.exists() else []


def carry_out(problem, place, cut=None, tell=lambda _event: None):
    """The comparison in a folder, with notes of its steps beside the store."""
    with pytest.MonkeyPatch.context() as patched, Store(place / "runs.sqlite") as store, Local(workers=1) as engine:
        patched.setattr(compare, "run_crew", partial(noted, place / "steps", cut))
        runs = [run for _, run in compare.execute(planned(problem), store, engine=engine, limits=Limits(retries=1), tell=tell)]
    return figures_of(runs)


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def until(condition):
    """Wait for something, half a minute at most."""
    end = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("problem", KINDS)
def test_a_killed_worker_costs_what_came_after_its_checkpoint_and_nothing_else(problem, tmp_path):
    events = []
    assert carry_out(problem, tmp_path, CUT, events.append) == undisturbed(problem)
    assert sum(isinstance(event, Lost) for event in events) == 1
    made = pids(tmp_path / "steps")
    assert len(made) == STEPS + 1  # The step at which it was killed was begun again, and no other.
    assert [made.count(pid) for pid in dict.fromkeys(made)] == [CUT, STEPS + 1 - CUT]
    assert not (tmp_path / "runs.sqlite.under-way").exists()


@needs_proc
def test_a_killed_driver_costs_no_more(tmp_path):
    problem = "wine-mlp"
    code = f"from test_under_way import *; carry_out({problem!r}, Path({str(tmp_path)!r}))"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    driver = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths})
    until(lambda: len(pids(tmp_path / "steps")) > 20 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    until(lambda: not is_running(pids(tmp_path / "steps")[0]))
    before = len(pids(tmp_path / "steps"))
    assert len(list((tmp_path / "runs.sqlite.under-way").glob("*.safetensors"))) == 1
    assert carry_out(problem, tmp_path) == undisturbed(problem)
    assert before < STEPS
    assert len(pids(tmp_path / "steps")) <= STEPS + 1
    assert not (tmp_path / "runs.sqlite.under-way").exists()


def test_a_store_in_memory_keeps_nothing_under_way(tmp_path, monkeypatch):
    folders = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "run_crew", lambda _trials, folder: folders.append(folder) or [])
    monkeypatch.setattr(compare, "perform", lambda _engine, run, crews, **_: ((crew, run(crew)) for crew in crews))
    for path in (":memory:", "runs.sqlite"):
        with Store(path) as store, pytest.raises(ValueError, match="zip"):  # There are no runs.
            list(compare.execute(planned("wine-mlp"), store, engine=Local()))
    assert folders == [None, tmp_path / "runs.sqlite.under-way"]
    assert {file.name for file in tmp_path.iterdir()} == {"runs.sqlite"}


def test_trials_that_are_still_under_way_keep_their_folder(tmp_path):
    with under_way.beside(tmp_path / "runs") as folder:
        (folder / "another.safetensors").touch()
    assert folder.is_dir()


def test_where_no_folder_can_be_made_there_is_none(tmp_path):
    with under_way.beside(tmp_path / "absent" / "runs") as folder:
        assert folder is None
    assert under_way.keeper(None, "this") is None


def test_a_worker_on_a_machine_without_the_folder_trains_as_ever(tmp_path):
    trials = planned("wine-mlp").trials
    assert figures_of(crews.run_crew(trials, tmp_path / "elsewhere")) == undisturbed("wine-mlp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stacks", [True, False])
def test_a_block_of_the_contest_that_was_cut_gives_the_rows_of_one_that_was_not(stacks, tmp_path, monkeypatch):
    study = study_of(quick=True, tasks=["digits-mlp"], rivals=["greedy", "range-test"])
    block = next(block for block in study.missing(lambda _: {}) if block.stacks)
    wanted = {rival.name: (rival, run) for rival, run in block.runs}  # One of each rival.
    block = block._replace(problem=replace(block.problem, steps=STEPS), stacks=stacks, runs=tuple(wanted.values()))
    monkeypatch.setattr(under_way, "Keeper", at_every_step)
    place, drive = blocks.Place(tmp_path, "this"), blocks.drive

    def cut(*given, **named):
        for row in drive(*given, **named):
            if row.step == CUT and named.get("keeper"):
                raise InterruptedError
            yield row

    monkeypatch.setattr(blocks, "drive", cut)
    with pytest.raises(InterruptedError):
        blocks.run(block, place)
    monkeypatch.setattr(blocks, "drive", drive)
    kept = place.keeper(block)
    assert kept.find(lambda _: True)
    assert kept.step == CUT
    assert [row._replace(seconds=0.0) for row in blocks.run(block, place)] == [
        row._replace(seconds=0.0) for row in blocks.run(block)
    ]
    place.clear(block)
    assert not list(tmp_path.iterdir())
