"""The options of long commands: said once, refused in sentences, and what they come to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from surefoot import running as module
from surefoot.cli import app
from surefoot.engine import Limits, Local
from surefoot.running import Running, takes_running

COMMANDS = (["compare"], ["demo"], ["contest", "run"], ["judge"], ["verify-nmf"], ["learn"])
OPTIONS = ("--engine", "--address", "--workers", "--retries", "--time-limit", "--memory-limit", "--gpus", "--log", "--quiet")


def surefoot(*words, cwd):
    """The command as a script would give it."""
    command = [sys.executable, "-m", "surefoot", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def given(*words):
    """What a command with these options gets."""
    got, small = [], typer.Typer()

    @small.command()
    @takes_running
    def command(name: str = "none", *, running: Running) -> None:
        got.append((name, running))

    done = CliRunner().invoke(small, words)
    assert done.exit_code == 0, done.output
    return got[0]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_long_command_has_the_same_options_under_one_heading(command):
    text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    below = text.partition(module.PANEL)[2]
    assert all(option in below for option in OPTIONS)


def test_options_come_as_one_parameter_beside_a_commands_own():
    assert given() == ("none", Running())
    assert given("--name", "me", "--workers", "3", "--quiet") == ("me", Running(workers=3, quiet=True))


def test_limits_are_in_the_units_of_engines():
    running = given("--retries", "0", "--time-limit", "0.5", "--memory-limit", "1.5", "--gpus", "0.25")[1]
    assert running.limits == Limits(retries=0, seconds=30.0, memory=1_500_000_000, gpus=0.25)
    assert Running().limits == Limits()


def test_the_engine_is_this_machine_unless_another_is_asked_for():
    assert given("--workers", "2")[1].engine() == Local(2)


def test_a_cluster_is_joined_where_it_is_said_to_be():
    cluster = pytest.importorskip("surefoot.engine.cluster")
    assert given("--engine", "ray", "--address", "auto")[1].engine() == cluster.Ray(address="auto")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "dask"], "surefoot: --engine must be one of 'local', 'ray', got 'dask'"),
        (["--address", "auto"], "surefoot: --address is that of a Ray cluster; give --engine ray, too, or no address"),
        (["--time-limit", "0"], "surefoot: --time-limit must be above 0, got 0"),
        (["--memory-limit", "nan"], "surefoot: --memory-limit must be above 0, got nan"),
        (["--gpus", "1.5"], "surefoot: gpus above 1 must be a whole number, got 1.5"),
        (["--workers", "-1"], "Invalid value for '--workers'"),
        (["--log", "nowhere/log"], "surefoot: the log nowhere/log cannot be written: No such file or directory; name another"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["compare", "--problem", "wine-mlp", *words], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_a_cluster_without_ray_is_answered_in_a_sentence(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    done = CliRunner().invoke(app, ["judge", "greedy", "--engine", "ray"])
    assert done.exit_code == 2
    assert done.stderr == "surefoot: --engine ray needs Ray: pip install 'surefoot[ray]'\n"


def test_a_script_gets_json_alone_and_a_log_of_what_happened(tmp_path):
    words = ["compare", "--problem", "wine-mlp", "--policy", "constant", "--seeds", "2", "--steps", "10"]
    done = surefoot(*words, "--json", "--quiet", "--log", "log.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["cells"][0]["problem"] == "wine-mlp"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["opened", "began", "finished", "closed"]
    assert lines[1]["what"] == "wine-mlp, sgd, constant, seed 0, and 1 more"
    assert lines[1]["where"] == lines[2]["where"]


def test_what_takes_too_long_has_failed_and_the_same_command_tries_it_again(tmp_path):
    words = ["compare", "--problem", "wine-mlp", "--policy", "constant", "--seeds", "1", "--steps", "1000000", "--quiet"]
    done = surefoot(*words, "--time-limit", "0.01", "--log", "log.jsonl", cwd=tmp_path)
    assert done.returncode == 1
    failed, end = done.stderr.splitlines()
    assert failed == "surefoot: wine-mlp, sgd, constant, seed 0: it took longer than 0.6 seconds"
    assert end.startswith(
        "surefoot: it took longer than 0.6 seconds. 0 runs are kept in surefoot-runs.sqlite; the same command"
    )
    assert end.endswith("tries the rest again (tracebacks are in log.jsonl).")
    assert not (tmp_path / "surefoot-report.html").exists()
    assert "failed" in Path(tmp_path / "log.jsonl").read_text()
