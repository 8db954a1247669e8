"""Comparisons of real trainings: planned, carried out in processes, stopped, killed, taken up again and judged."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_files import made
from surefoot import Clip, Constant, Greedy, Warmup, catalogue, compare, crews, learned, lineup, spec
from surefoot.engine import Local
from surefoot.runs import Store

SMALL = ["compare", "--problem", "breast-cancer-mlp", "--policy", "greedy,cosine", "--seeds", "48", "--workers", "2"]
RUNS = 96


def surefoot(*words, cwd, **settings):
    """The command as a user would give it."""
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "surefoot", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        **settings,
    )


def figures_of(runs):
    """Everything about runs but how long they took."""
    return {run.trial.key: [run.status, run.loss, run.rate, run.held_out_step, run.held_out] for run in runs}


def assert_same(some, others):
    """The same runs with the same figures, but for the rounding of sums."""
    assert some.keys() == others.keys()
    for key, (status, *figures) in some.items():
        other, *expected = others[key]
        assert status == other
        for found, wanted in zip(figures, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


def figures(folder):
    """The same of the runs in a store."""
    with Store(folder / "surefoot-runs.sqlite") as store:
        return figures_of(store)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A comparison that nothing happened to, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = surefoot(*SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_comparison_trains_every_policy_from_the_same_start(undisturbed):
    with Store(undisturbed[0] / "surefoot-runs.sqlite") as store:
        runs = list(store)
    assert len(runs) == RUNS
    first_losses = {(run.trial.seed, run.trial.policy["is"]): run.loss[0] for run in runs}
    for seed in range(48):
        assert first_losses[seed, "Greedy"] == first_losses[seed, "Cosine"]
    assert len(set(first_losses.values())) == 48


def test_a_comparison_prints_a_table_and_ends_with_the_page(undisturbed):
    folder, done = undisturbed
    table = re.sub(r"\s+", " ", done.stdout)
    assert "breast-cancer-mlp, sgd, base rate 0.03, 300 steps, 48 seeds" in table
    assert "held-out loss" in table
    assert "vs cosine" in table
    assert "steps to target" in table
    assert done.stdout.splitlines()[-1] == f"Page: {folder.resolve() / 'surefoot-report.html'}"
    page = (folder / "surefoot-report.html").read_text()
    assert "breast-cancer-mlp" in page
    assert "greedy" in page


def test_the_same_command_again_trains_nothing(undisturbed):
    folder, first = undisturbed
    again = surefoot(*SMALL, cwd=folder)
    assert f"{RUNS} of {RUNS} runs are in surefoot-runs.sqlite already." in again.stderr
    assert "seed 0: finished" not in again.stderr
    assert again.stdout == first.stdout


def test_the_report_command_draws_the_same_table_from_the_store(undisturbed):
    folder, first = undisturbed
    done = surefoot("report", "surefoot-runs.sqlite", "--page", "again.html", cwd=folder)
    assert done.stdout.splitlines()[:-1] == first.stdout.splitlines()[:-1]
    assert (folder / "again.html").stat().st_size > 10_000


def test_json_holds_the_figures_of_the_table(undisturbed):
    folder, _ = undisturbed
    done = surefoot(*SMALL, "--json", cwd=folder)
    found = json.loads(done.stdout)
    (cell,) = found["cells"]
    assert [row["policy"] for row in cell["policies"]] == sorted(
        ["greedy", "cosine"], key=lambda name: next(row["final"] for row in cell["policies"] if row["policy"] == name)
    )
    assert {row["runs"] for row in cell["policies"]} == {48}
    assert found["page"] == "surefoot-report.html"


def started(folder):
    """The comparison, under way: some runs are finished and others are not."""
    words = [sys.executable, "-m", "surefoot", *SMALL]
    process = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert "seed" in process.stderr.readline()
    return process


def children(process):
    """The process numbers of the forkserver and its workers."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, line.split()) for line in listing.splitlines())
    found, seen = [process.pid], set()
    while found:
        seen |= set(found)
        found = [pid for pid, parent in parents.items() if parent in seen and pid not in seen]
    return sorted(seen - {process.pid})


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@needs_proc
def test_a_killed_comparison_takes_up_where_it_stopped(tmp_path, undisturbed):
    process = started(tmp_path)
    workers = children(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = figures(tmp_path)
    assert 0 < len(kept) < RUNS
    until = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(is_running, workers))
    again = surefoot(*SMALL, cwd=tmp_path)
    assert f"{len(kept)} of {RUNS} runs are in surefoot-runs.sqlite already." in again.stderr
    assert_same(figures(tmp_path), figures(undisturbed[0]))


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, undisturbed):
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert 0 < len(figures(tmp_path)) < RUNS
    surefoot(*SMALL, cwd=tmp_path)
    assert_same(figures(tmp_path), figures(undisturbed[0]))


@needs_proc
def test_a_second_ctrl_c_leaves_at_once(tmp_path):
    slow = [
        "compare",
        "--problem",
        "stdlib-gpt",
        "--policy",
        "constant",
        "--seeds",
        "4",
        "--workers",
        "2",
        "--steps",
        "1000000",
    ]
    process = subprocess.Popen([sys.executable, "-m", "surefoot", *slow], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(children(process)) < 4 and time.monotonic() < until:  # The tracker, the forkserver and two workers.
        time.sleep(0.1)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "Stopped. 0 runs are kept in surefoot-runs.sqlite; the same command goes on from there."
    assert "Traceback" not in said


@needs_proc
def test_a_killed_worker_costs_only_what_it_was_doing(tmp_path, undisturbed):
    process = started(tmp_path)
    _server, *workers = children(process)
    os.kill(workers[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert_same(figures(tmp_path), figures(undisturbed[0]))


def test_a_run_is_the_same_but_for_rounding_whoever_trains_it(undisturbed):
    trials = compare.plan(["breast-cancer-mlp"], ["sgd"], ["greedy", "cosine"], seeds=48).trials[5:7]
    kept = {trial.key: figures(undisturbed[0])[trial.key] for trial in trials}
    assert_same(kept, figures_of(map(crews.run_trial, trials)))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("problem", crews.TOGETHER)
def test_a_fleet_gives_the_figures_of_its_runs(problem, optimizer):
    (crew,) = crews.crews(compare.plan([problem], [optimizer], ["greedy", "cosine"], seeds=2, steps=40).trials)
    assert_same(figures_of(crews.run_crew(crew)), figures_of(map(crews.run_trial, crew)))


def test_an_odd_number_of_runs_gives_each_its_own_figures():
    trials = compare.plan(["wine-mlp"], ["sgd"], ["constant", "linear", "greedy"], seeds=1, steps=30).trials
    runs = crews.run_crew(trials)
    assert [run.trial for run in runs] == trials
    assert_same(figures_of(runs), figures_of(map(crews.run_trial, trials)))


def test_a_fleet_gives_each_run_its_own_end():
    cells = [compare.plan(["wine-mlp"], ["sgd"], ["constant"], seeds=2, rate=rate, steps=40).trials for rate in (1e36, 0.01)]
    crew = [trial for pair in zip(*cells, strict=True) for trial in pair]
    for trial, run in zip(crew, crews.run_crew(crew), strict=True):
        alone = crews.run_trial(trial)
        assert (run.status, len(run.loss), len(run.held_out)) == (alone.status, len(alone.loss), len(alone.held_out))


def test_of_a_fleet_that_was_stopped_half_way_only_the_rest_is_trained(tmp_path):
    planned = compare.plan(["wine-mlp"], ["sgd"], ["constant", "linear"], seeds=8, steps=20)
    whole = crews.run_crew(planned.trials)
    with Store(tmp_path / "runs.sqlite") as store:
        for run in whole[:5]:
            store.add(run)
        assert [trial for trial, _ in compare.execute(planned, store, engine=Local(1))] == planned.trials[5:]
        assert_same(figures_of(store), figures_of(whole))


def test_most_runs_are_trained_as_fleets_of_bounded_size_and_large_networks_alone():
    trials = compare.plan(["wine-mlp", "stdlib-gpt"], ["sgd", "adam"], ["constant", "linear"], seeds=10).trials
    sizes = {(crew[0].problem, crew[0].optimizer): [] for crew in crews.crews(trials)}
    for crew in crews.crews(trials):
        sizes[crew[0].problem, crew[0].optimizer].append(len(crew))
    assert sizes["wine-mlp", "sgd"] == sizes["wine-mlp", "adam"] == [16, 4]
    assert sizes["stdlib-gpt", "adam"] == [1] * 20


def test_a_rate_far_too_high_is_a_diverged_run_and_ranks_last(tmp_path):
    planned = compare.plan(["wine-mlp"], ["sgd"], ["constant", "constant(scale=1e-9)"], seeds=2, rate=1e6, steps=60)
    with Store(tmp_path / "runs.sqlite") as store:
        for trial in planned.trials:
            store.add(crews.run_trial(trial))
        (cell,) = compare.judge(planned, store)
    assert [(row.policy, row.diverged) for row in cell.summaries] == [("constant(scale=1e-9)", 0), ("constant", 2)]
    assert cell.summaries[-1].final == math.inf


def test_policies_entered_twice_under_two_names_share_their_runs():
    planned = compare.plan(["wine-mlp"], ["sgd"], ["greedy", "greedy()"], seeds=2)
    assert len(planned.trials) == 2


def test_only_seeds_that_all_policies_share_are_compared(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        for policy, seeds in (("constant", 3), ("linear", 2)):
            for trial in compare.plan(["wine-mlp"], ["sgd"], [policy], seeds=seeds, steps=10).trials:
                store.add(crews.run_trial(trial))
        (cell,) = compare.collect(store)
    assert {label: [run.trial.seed for run in runs] for label, runs in cell.runs.items()} == {
        "constant": [0, 1],
        "linear": [0, 1],
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems": ["nope"]}, "no problem is called 'nope'; choose from digits-mlp, "),
        ({"optimizers": ["lion"]}, "wine-mlp cannot be trained with 'lion'; choose from sgd, adam"),
        ({"policies": ["gready"]}, "no policy is called 'gready'; choose from greedy, "),
        ({"policies": ["greedy(patients=3)"]}, "sets patients; write settings as name=value, with names from factor, patience"),
        ({"policies": ["greedy(3)"]}, "'greedy\\(3\\)' cannot be read; write settings as name=value"),
        ({"policies": ["greedy(patience=__import__('os'))"]}, "cannot be read"),
        ({"policies": ["greedy(factor=2)"]}, "factor must lie strictly between 0 and 1, got 2"),
        ({"policies": []}, "name at least one policy"),
        ({"policies": ["greedy", "greedy"]}, "each policy can be named once"),
        ({"seeds": 0}, "seeds must be a whole number, 1 or more, got 0"),
        ({"rate": -0.1}, "rate must be above 0, got -0.1"),
        ({"rate": math.nan}, "rate must be finite, got nan"),
        ({"steps": 0}, "steps must be a whole number, 1 or more, got 0"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(settings, message):
    sound = {"problems": ["wine-mlp"], "optimizers": ["sgd"], "policies": ["greedy"], "seeds": 1}
    with pytest.raises(ValueError, match=message):
        compare.plan(**{**sound, **settings})


@pytest.mark.parametrize("problem", ["wine-mlp", "digits-nmf"])
def test_what_a_policy_sees_is_measured(problem, tmp_path):
    entry = f"learned(name={made(tmp_path, tier='gradient')!r})"
    crew = compare.plan([problem], ["sgd"], [entry, "constant"], seeds=1, steps=12).trials
    runs = crews.run_crew(crew)
    assert [len(run.loss) for run in runs] == [12, 12]
    assert_same(figures_of(runs), figures_of(map(crews.run_trial, crew)))


def test_a_policy_that_sees_what_is_not_measured_is_refused(tmp_path):
    bound = f"learned(name={made(tmp_path, bound=True)!r})"
    with pytest.raises(ValueError, match=r"sees bound, which wine-mlp does not measure; it measures the loss, alignment and"):
        compare.plan(["wine-mlp"], ["sgd"], [bound], seeds=1)
    assert compare.plan(["digits-nmf"], ["sgd"], [bound], seeds=1).trials
    with pytest.raises(ValueError, match="sees progress, which wine-mlp does not measure"):
        compare.plan(["wine-mlp"], ["sgd"], [f"learned(name={made(tmp_path, 'timed')!r}, steps=None, timed=True)"], seeds=1)


@pytest.fixture
def learned_anew(tmp_path, monkeypatch):
    """Trials of a policy from a file, and of the one that was learned into the same file later."""
    planned = []
    for seed in (0, 1):
        entry = f"learned(name={made(tmp_path, seed=seed)!r})"
        for memory in ("_read", "_made"):  # A process reads a file once: this is another.
            monkeypatch.setattr(learned, memory, {})
        planned.append(compare.plan(["wine-mlp"], ["sgd"], [entry, "constant"], seeds=1, steps=10))
    return planned


def test_a_policy_learned_anew_into_the_same_file_is_trained_anew(learned_anew, tmp_path):
    (old, same), (new, as_before) = (planned.trials for planned in learned_anew)
    assert old.key != new.key
    assert (old.policy, same) == (new.policy, as_before)
    with pytest.raises(ValueError, match="no longer what the comparison was planned with"):
        crews.run_trial(old)
    with Store(tmp_path / "runs.sqlite") as store:
        for trial in (replace(new, weights=""), same):
            store.add(replace(crews.run_trial(same), trial=trial))
        store.add(crews.run_trial(new))
        (cell,) = compare.collect(store)
    assert len(cell.runs) == 3


def test_trials_without_learned_policies_keep_their_keys():
    (trial,) = compare.plan(["wine-mlp"], ["sgd"], ["constant"], seeds=1).trials
    assert "weights" not in json.loads(trial.to_json())
    assert crews.weights(Clip(Constant())) == ""


@pytest.mark.parametrize("name", lineup.LINEUP)
@pytest.mark.parametrize("steps", [1, 7, 600])
def test_every_policy_of_the_lineup_is_made_for_any_budget(name, steps):
    policy = lineup.enter(name, steps)
    assert lineup.label(policy, steps) == name
    assert spec.from_dict(json.loads(json.dumps(spec.to_dict(policy)))) == policy
    assert np.isfinite(policy.init().scale)


def test_settings_are_shown_as_they_are_entered():
    entries = lineup.split("greedy(patience=5, mode='max'), step(milestones=(3, 9)),constant")
    assert entries == ["greedy(patience=5, mode='max')", "step(milestones=(3, 9))", "constant"]
    assert [lineup.label(lineup.enter(entry, 10), 10) for entry in entries] == entries
    assert lineup.label(Warmup(Constant(0.5), steps=2), 10).startswith("cosine-warmup(policy=Constant(scale=0.5)")


def test_what_is_not_in_the_lineup_is_called_what_it_calls_itself():
    assert lineup.label(Clip(Greedy()), 10).startswith("Clip(policy=Greedy(")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"is": "os.system"}, "no policy is called 'os.system'; known are Clip, Constant"),
        ({"steps": 5}, "a policy is written as"),
        ([1], "a policy is written as"),
    ],
)
def test_data_that_is_no_policy_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        spec.from_dict(data)


@pytest.mark.parametrize("name", catalogue.PROBLEMS)
def test_a_plan_knows_of_a_problem_what_it_says_itself(name):
    for optimizer in catalogue.PROBLEMS[name].bases:
        made = catalogue.problem(name, optimizer)
        (trial,) = compare.plan([name], [optimizer], ["constant"], seeds=1).trials
        assert (trial.base, trial.steps, trial.revision) == (made.base, made.steps, made.revision)


def test_planning_a_comparison_imports_no_framework():
    plan = "compare.plan(['digits-cnn'], ['sgd'], ['greedy'], seeds=1)"
    code = f"import sys; from surefoot import compare; {plan}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
