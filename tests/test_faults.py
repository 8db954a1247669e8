"""What a study has to live through: after each disaster nothing is lost, nothing is there twice, and the figures are the same.

The disasters are real, at a reduced size; `SUREFOOT_FAULTS=full` brings them on as often as the documentation says.
"""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import small_study
from surefoot.runs import Store, StoreError

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="kills and mounts as Linux does")]

FULL = os.environ.get("SUREFOOT_FAULTS") == "full"
WORKER_KILLS, DRIVER_KILLS, SEEDS = (50, 10, 150) if FULL else (6, 2, 16)
PROGRAM = Path(small_study.__file__)
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def begun(store, seeds=SEEDS, **settings):
    words = [sys.executable, str(PROGRAM), str(store), str(seeds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


def finished(store, seeds=SEEDS, **settings):
    """The keys that a study that nothing happens to prints until it is done."""
    process = begun(store, seeds, **settings)
    printed, said = process.communicate(timeout=220)
    assert process.returncode == 0, said
    *keys, last = printed.split()
    assert last == "done"
    return keys


def figures(store):
    """Everything about the runs in a store but how long they took, to the last bit."""
    with Store(store) as runs:
        return {
            run.trial.key: (run.status, *(series.tobytes() for series in (run.loss, run.rate, run.held_out_step, run.held_out)))
            for run in runs
        }


def workers_of(process):
    """Its workers: the children of the server that forks them."""
    found = []
    for child in psutil.Process(process.pid).children():
        try:
            if "forkserver" in " ".join(child.cmdline()):
                found += child.children()
        except psutil.NoSuchProcess:
            continue
    return found


def first_lines(process, count):
    return [process.stdout.readline().strip() for _ in range(count)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = tmp_path_factory.mktemp("undisturbed") / "runs.sqlite"
    keys = finished(store)
    assert len(keys) == len(set(keys)) == 2 * SEEDS
    return figures(store)


def test_workers_that_are_killed_change_nothing(tmp_path, undisturbed):
    process = begun(tmp_path / "runs.sqlite")
    printed = []
    reader = threading.Thread(target=lambda: printed.extend(process.stdout.read().split()))
    reader.start()
    killed, chance = 0, random.Random(0)
    while process.poll() is None and killed < WORKER_KILLS:
        time.sleep(chance.uniform(0.05, 0.25))
        if workers := workers_of(process):
            chance.choice(workers).kill()
            killed += 1
    assert process.wait(200) == 0, process.stderr.read()
    reader.join()
    process.stdout.close()
    process.stderr.close()
    assert killed == WORKER_KILLS
    assert len(printed) == len(set(printed)) == 2 * SEEDS + 1
    assert figures(tmp_path / "runs.sqlite") == undisturbed


def test_a_driver_that_is_killed_again_and_again_loses_nothing(tmp_path, undisturbed):
    store, kept, chance = tmp_path / "runs.sqlite", set(), random.Random(0)
    for _ in range(DRIVER_KILLS):
        with begun(store) as process:
            printed = first_lines(process, chance.randrange(1, 4))
            workers = workers_of(process)
            time.sleep(chance.uniform(0.0, 0.3))
            process.kill()
            printed += process.stdout.read().split()
        assert not kept & set(printed), "a run that was kept was made again"
        assert set(printed) <= figures(store).keys(), "a run that was told of is not kept"
        kept = set(figures(store))
        psutil.wait_procs(workers, timeout=10)
        assert not any(worker.is_running() for worker in workers)
    assert not kept & set(finished(store))
    assert figures(store) == undisturbed


def test_ctrl_c_twice_loses_nothing(tmp_path, undisturbed):
    with begun(tmp_path / "runs.sqlite") as process:
        first_lines(process, 2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode != 0
    finished(tmp_path / "runs.sqlite")
    assert figures(tmp_path / "runs.sqlite") == undisturbed


def test_a_server_of_workers_that_is_killed_changes_nothing(tmp_path, undisturbed):
    with begun(tmp_path / "runs.sqlite") as process:
        first_lines(process, 2)
        for child in psutil.Process(process.pid).children():
            child.kill()
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    assert figures(tmp_path / "runs.sqlite") == undisturbed


def in_a_mount(commands):
    """What a shell says that may mount what nobody else sees."""
    wrapped = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "bash", "-euc", commands]
    return subprocess.run(wrapped, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def mounts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mounts")
    if shutil.which("unshare") is None or in_a_mount(f"mount -t tmpfs -o size=64k none {folder}").returncode:
        pytest.skip("this process may mount nothing")


@pytest.mark.usefixtures("mounts")
def test_a_full_disk_ends_a_study_in_a_sentence_and_loses_nothing(tmp_path, undisturbed):
    disk, study = tmp_path / "disk", f"{sys.executable} {PROGRAM}"
    disk.mkdir()
    done = in_a_mount(
        f"""
        mount -t tmpfs -o size=160k none {disk}
        {study} {disk}/runs.sqlite {SEEDS} > {tmp_path}/first 2> {tmp_path}/said && exit 3
        mount -o remount,size=64m {disk}
        {study} {disk}/runs.sqlite {SEEDS} > {tmp_path}/second
        cp {disk}/runs.sqlite* {tmp_path}
        """
    )
    assert done.returncode == 0, done.stderr
    assert "runs.sqlite cannot be used: database or disk is full" in (tmp_path / "said").read_text()
    first, second = ((tmp_path / name).read_text().split() for name in ("first", "second"))
    assert first
    assert sorted([*first, *second]) == sorted([*undisturbed, "done"])
    assert figures(tmp_path / "runs.sqlite") == undisturbed


@pytest.mark.usefixtures("mounts")
def test_a_folder_that_cannot_be_written_to_is_told_and_its_runs_can_be_read(tmp_path):
    finished(tmp_path / "runs.sqlite", 1)
    done = in_a_mount(
        f"""
        mount --bind {tmp_path} {tmp_path}
        mount -o remount,ro,bind {tmp_path}
        {sys.executable} {PROGRAM} {tmp_path}/other.sqlite 1 2>&1 && exit 3
        {sys.executable} {PROGRAM} {tmp_path}/runs.sqlite 2 2>&1 && exit 3
        {sys.executable} -m surefoot report {tmp_path}/runs.sqlite --page /dev/null --json
        """
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "other.sqlite cannot be used: unable to open database file" in done.stdout
    assert "runs.sqlite cannot be used: attempt to write a readonly database" in done.stdout
    assert '"runs": 1' in done.stdout


def test_a_store_that_was_not_closed_is_not_read_without_its_log(tmp_path, monkeypatch):
    with begun(tmp_path / "runs.sqlite", 3) as process:
        first_lines(process, 1)
        process.kill()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StoreError, match="was not closed in order, and its folder cannot be written to; copy all files"):
        Store(tmp_path / "runs.sqlite")


@pytest.mark.skipif(not FAKETIME.exists(), reason="the Debian package faketime is not there")
def test_a_clock_that_jumps_changes_nothing(tmp_path, undisturbed):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        **os.environ,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with begun(tmp_path / "runs.sqlite", env=faked) as process:
        for shift in ("+400d", "-400d", "+1h", "-3s", "+0"):
            first_lines(process, 2)
            clock.write_text(shift)
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    assert figures(tmp_path / "runs.sqlite") == undisturbed


def test_the_store_is_whole_after_all_that(tmp_path):
    with begun(tmp_path / "runs.sqlite", 3) as process:
        first_lines(process, 2)
        process.kill()
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
