"""The tasks of the comparison are what their file says, and their data what everybody else has."""

from __future__ import annotations

import json
import pickle
from io import BytesIO
from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
from typer.testing import CliRunner

from surefoot import fleet
from surefoot.cli import app
from surefoot.contest import letters, packages, sources, tasks
from surefoot.contest.fetch import fetch
from surefoot.contest.packages import Package
from surefoot.data import DataMissing

TASKS = tasks.load()
PAGE = Path(__file__).parent.parent / "docs" / "contest-tasks.md"
FAST = (
    "digits-mlp",
    "modules-told-apart",
    "digits-nmf",
    "fashion-cnn-normed",
    "telco-mlp",
    "dna-mlp",
    "spam-mlp",
    "ratings-nmf",
)

ENTRY = {
    "name": '"mine"',
    "role": '"test"',
    "field": '"vision"',
    "data": '"digits"',
    "held_out": "449",
    "model": '"perceptron"',
    "sizes": "[32]",
    "batch_size": "32",
    "loss": '"cross-entropy"',
    "steps": "100",
    "needs": '["scikit-learn"]',
}


def file_of(folder, *entries):
    path = folder / "own.toml"
    path.write_text("".join("[[task]]\n" + "".join(f"{key} = {value}\n" for key, value in entry.items()) for entry in entries))
    return path


def row(task):
    sizes, needs = " x ".join(map(str, task.sizes)) or "none", ", ".join(task.needs) or "nothing"
    model = f"{task.model}, {sizes}"
    return (
        f"| {task.name} | {task.role} | {task.field} | {task.data}, {task.held_out} | {model} | {task.batch_size} "
        f"| {task.steps} | {needs} |"
    )


def test_there_are_as_many_tasks_as_the_protocol_asks_for():
    assert sum(task.role == "test" for task in TASKS) >= 30
    assert sum(task.role == "development" for task in TASKS) >= 8


def test_no_data_serve_both_for_choosing_defaults_and_for_judging_them():
    test, development = ({task.data for task in TASKS if task.role == role} for role in tasks.ROLES)
    assert not test & development


def test_the_page_shows_the_tasks_of_the_file():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and line.count("|") == 9]
    assert rows[1:] == [row(task) for task in TASKS]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_makes_problems_that_can_be_sent_to_other_processes(task):
    for optimizer in task.optimizers:
        assert pickle.loads(pickle.dumps(task.problem(optimizer))).name == task.name  # noqa: S301 - our own


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_data_are_finite_and_of_their_declared_shape(task):
    if task.missing():
        pytest.skip(task.missing())
    split = sources.load(task.data, task.held_out)
    assert len(split.held_out_x) == len(split.held_out_y) == task.held_out
    assert len(split.train_x) == len(split.train_y)
    assert split.train_x.dtype == split.held_out_x.dtype == np.float32
    assert np.isfinite(split.train_x).all()
    assert np.isfinite(split.held_out_x).all()
    assert set(np.unique(split.held_out_y)) <= set(range(split.train_y.max() + 1))


@pytest.mark.parametrize("task", [task for task in TASKS if task.name in FAST], ids=lambda task: task.name)
def test_twenty_steps_bring_the_loss_down(task):
    if task.missing():
        pytest.skip(task.missing())
    problem = task.problem()
    many = fleet.fleet(problem)
    runs, losses = many.init([0, 1]), []
    for _ in range(20):
        runs, signals = many.step(runs, np.full(2, 0.5 if task.model == "factorisation" else 0.03))
        losses.append(np.asarray(signals["loss"]).mean())
    assert np.mean(losses[-3:]) < losses[0]


@pytest.mark.parametrize("key", ENTRY)
def test_a_missing_key_is_named_with_its_file_and_task(key, tmp_path):
    path = file_of(tmp_path, {name: value for name, value in ENTRY.items() if name != key})
    with pytest.raises(ValueError, match=f"own.toml: task .* must have the key '{key}', got none"):
        tasks.load(path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("speed", "3", "must have no keys but"),
        ("role", '"exam"', "role must be one of"),
        ("data", '"cifar"', "data must be one of"),
        ("steps", "0", "steps must be a whole number, 1 or more"),
        ("batch_size", '"many"', "batch_size must be a whole number"),
        ("sizes", "32", "sizes must be a list"),
        ("sizes", "[0]", "sizes must be a whole number, 1 or more"),
        ("model", '"convolutions"', "sizes must be 3"),
        ("loss", '"squared error"', "loss must be 'cross-entropy'"),
        ("needs", "[7]", "needs must be text"),
        ("role", "[]", "role must be one of"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_task_and_key(key, value, sentence, tmp_path):
    with pytest.raises(ValueError, match=f"own.toml: task 'mine'.* {sentence}"):
        tasks.load(file_of(tmp_path, ENTRY | {key: value}))


def test_two_tasks_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be its own, got 'mine' 2 times"):
        tasks.load(file_of(tmp_path, ENTRY, ENTRY))


@pytest.mark.parametrize("content", ["", "task = 3", "task = [3]", "[[task", "[task]\nname = 'a'"])
def test_a_file_of_something_else_is_refused_by_name(content, tmp_path):
    (tmp_path / "own.toml").write_text(content)
    with pytest.raises(ValueError, match="own.toml must"):
        tasks.load(tmp_path / "own.toml")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="none.toml must be a readable file"):
        tasks.load(tmp_path / "none.toml")


def test_a_factorisation_has_one_optimizer():
    task = next(task for task in TASKS if task.model == "factorisation")
    with pytest.raises(ValueError, match="optimizer must be one of 'sgd', got 'adamw'"):
        task.problem("adamw")


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with neither installed packages nor fetched ones."""
    monkeypatch.setattr(packages, "_ROOT", tmp_path / "root")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_missing_data_are_named_with_the_way_to_get_them(bare):
    task = next(task for task in TASKS if task.data == "letter")
    assert "letter-mlp: the data of the Debian package r-cran-mlbench must be on this machine" in task.missing()
    assert "surefoot contest fetch" in task.missing()


def test_a_package_with_a_wrong_checksum_is_refused_and_nothing_is_kept(bare, monkeypatch):
    monkeypatch.setattr(packages, "urlopen", Mock(return_value=BytesIO(b"!<arch>\nnot the one")))
    (sentence,) = fetch(["r-cran-mlbench"])
    assert "r-cran-mlbench must have the SHA-256 2f1127f7" in sentence
    assert not (bare / "surefoot").exists()


def test_what_cannot_be_fetched_is_reported_by_name(bare, monkeypatch):
    monkeypatch.setattr(packages, "urlopen", Mock(side_effect=URLError("no network")))
    said = []
    failures = fetch(["r-cran-mlbench", "bible-kjv-text"], on_progress=said.append)
    assert failures == said
    assert [sentence.partition(":")[0] for sentence in failures] == ["r-cran-mlbench", "bible-kjv-text"]


def test_fetching_keeps_the_files_that_are_read_and_nothing_else(bare, monkeypatch):
    import hashlib
    import tarfile

    inner = BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        for name in ("./usr/lib/wanted", "./usr/lib/other"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, BytesIO(b"data"))
    body = inner.getvalue()
    header = b"data.tar.xz".ljust(48) + str(len(body)).encode().ljust(10) + b"`\n"
    content = b"!<arch>\n" + header + body
    package = Package("made-up", "m/made-up_1_all.deb", hashlib.sha256(content).hexdigest(), ("usr/lib/wanted",))
    monkeypatch.setattr(packages, "urlopen", Mock(return_value=BytesIO(content)))
    package.fetch()
    assert package.available
    assert package.read("usr/lib/wanted") == b"data"
    assert [file.name for file in package.folder.iterdir()] == ["wanted"]


def test_reading_what_was_not_fetched_says_how_to_fetch_it(bare):
    with pytest.raises(DataMissing, match="run `surefoot contest fetch`"):
        packages.PACKAGES["bible-kjv-text"].read("usr/lib/bible.data")


def test_an_unknown_package_is_refused():
    with pytest.raises(ValueError, match="names must be one of"):
        fetch(["r-cran-none"])


def test_the_bible_is_refused_when_it_is_another_file():
    with pytest.raises(ValueError, match="must begin with b'EC02'"):
        letters.bible(b"In the beginning")


@pytest.mark.skipif(not packages.PACKAGES["bible-kjv-text"].available, reason=packages.PACKAGES["bible-kjv-text"].advice)
def test_the_bible_is_read_whole():
    text = letters.bible(packages.PACKAGES["bible-kjv-text"].read("usr/lib/bible.data"))
    assert text.count(b"\n") == 31_103
    assert text.endswith(b"The grace of our Lord Jesus Christ be with you all. Amen.\n")


def command(*words):
    return CliRunner().invoke(app, ["contest", *words], env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_the_command_lists_all_tasks_and_those_that_lack_their_data(bare):
    found = command("tasks")
    assert all(task.name in found.stdout for task in TASKS)
    assert "letter-mlp: the data of the Debian package r-cran-mlbench must be on this machine" in found.stderr
    listed = json.loads(command("tasks", "--json").stdout)
    assert [entry["name"] for entry in listed] == [task.name for task in TASKS]
    assert {entry["name"] for entry in listed if entry["missing"] is None} < {task.name for task in TASKS}


def test_the_command_refuses_a_file_that_is_not_there():
    found = command("tasks", "--file", "nowhere.toml")
    assert (found.exit_code, found.stderr.count("nowhere.toml must be a readable file")) == (2, 1)


def test_the_command_says_what_could_not_be_fetched(bare, monkeypatch):
    monkeypatch.setattr(packages, "urlopen", Mock(side_effect=URLError("no route")))
    found = command("fetch", "r-cran-mlbench")
    assert (found.exit_code, "must be reachable" in found.stderr) == (1, True)
    assert command("fetch", "r-cran-nothing").exit_code == 2
