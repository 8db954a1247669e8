"""The command line: help that helps, answers to mistakes, exit codes."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import policy_files
from surefoot import Learned, __version__, catalogue, lineup, policy_file
from surefoot.cli import app


def surefoot(*words):
    return CliRunner().invoke(app, words, catch_exceptions=False, env={"COLUMNS": "250", "NO_COLOR": "1"})


def test_help_tells_a_newcomer_what_there_is():
    done = surefoot("--help")
    assert done.exit_code == 0
    for word in ("compare", "demo", "policies", "problems", "report", "Exit codes: 0 done"):
        assert word in done.output


def test_no_words_at_all_are_answered_with_help():
    assert "Usage" in surefoot().output


def test_help_of_a_command_explains_every_option():
    text = surefoot("compare", "--help").output
    for option in ("--problem", "--optimizer", "--policy", "--seeds", "--rate", "--steps", "--store", "--page", "--json"):
        assert option in text
    assert "goes on where it was stopped" in text


def test_the_version_can_be_asked_for():
    assert surefoot("--version").output.strip() == __version__


@pytest.mark.parametrize(("command", "names"), [("policies", lineup.LINEUP), ("problems", catalogue.PROBLEMS)])
def test_what_can_be_named_is_listed(command, names):
    assert all(name in surefoot(command).output for name in names)
    rows = json.loads(surefoot(command, "--json").stdout)
    assert [next(iter(row.values())) for row in rows] == list(names)
    assert all(row["description"] for row in rows)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--problem", "nope"], "surefoot: no problem is called 'nope'; choose from digits-mlp, digits-cnn, "),
        (["--problem", "wine-mlp", "--policy", "gready"], "surefoot: no policy is called 'gready'; choose from greedy, "),
        (
            ["--problem", "digits-nmf", "--optimizer", "adam"],
            "surefoot: digits-nmf cannot be trained with 'adam'; choose from sgd",
        ),
        (["--problem", "wine-mlp", "--rate", "-0.1"], "surefoot: rate must be above 0, got -0.1"),
        (["--problem", "wine-mlp", "--seeds", "0"], "surefoot: seeds must be a whole number, 1 or more, got 0"),
        (["--problem", ","], "surefoot: name at least one problem"),
        ([], "Missing option"),
        (["--problem", "wine-mlp", "--rate", "fast"], "Invalid value for '--rate'"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence_and_nothing_is_written(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = surefoot("compare", *words)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def not_a_store(folder):
    (folder / "runs.sqlite").write_text("step,loss\n1,0.5\n" * 100)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (not_a_store, "surefoot: runs.sqlite is not a store of surefoot runs; name another file"),
        (lambda _: None, "surefoot: there is no file runs.sqlite; name one that `surefoot compare` made"),
    ],
)
def test_a_file_that_holds_no_runs_is_refused(make, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    done = surefoot("report", "runs.sqlite")
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not (tmp_path / "surefoot-report.html").exists()


def test_a_store_in_a_missing_folder_fails_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = surefoot("compare", "--problem", "wine-mlp", "--store", "nowhere/runs.sqlite")
    assert done.exit_code == 1
    assert re.search("surefoot: the folder of nowhere/runs.sqlite does not exist; make it first", done.stderr)


def test_the_card_of_a_learned_policy_is_printed(tmp_path):
    path = policy_files.made(tmp_path, alarm=8.0)
    text = surefoot("policies", "show", path).output
    for words in (
        "made-up: Was never trained.",
        "WarmupStableDecay(warmup=0.1, decay=0.4)",
        "8 times the usual loss",
        "11 x 8 x 1",
    ):
        assert words in text
    assert json.loads(surefoot("policies", "show", path, "--json").stdout) == json.loads(Path(path).read_text("utf-8"))


@pytest.mark.parametrize("name", policy_file.shipped())
def test_every_learned_policy_that_comes_along_has_a_card_to_show(name):
    assert surefoot("policies", "show", name).output == surefoot("policies", "show", f"learned-{name}").output
    assert f"learned-{name}" in surefoot("policies").output


def test_a_card_that_is_not_there_is_answered_in_a_sentence():
    done = surefoot("policies", "show", "nobody")
    assert done.exit_code == 2
    assert "surefoot: no learned policy is called 'nobody'; choose from " in done.stderr


def test_a_learned_policy_can_be_entered_by_its_file_and_is_labelled_so(tmp_path):
    path = policy_files.made(tmp_path)
    policy = lineup.enter(f"learned(name={path!r})", steps=100)
    assert policy == Learned(path, steps=100)
    assert lineup.enter(lineup.label(policy, 100), steps=100) == policy
    assert lineup.label(policy, 100) == f"learned(name={path!r})"
    with pytest.raises(ValueError, match="names no file; write learned"):
        lineup.enter("learned(steps=5)", steps=100)
