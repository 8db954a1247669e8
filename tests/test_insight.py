"""What a learned policy saw and did, told from the run: the same fold, in rows, in words and on a page."""

import json
from math import inf, isclose, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import browsing
from policy_files import made, network
from surefoot import Learned, vega
from surefoot.cli import app
from surefoot.insight import log, page, trace
from surefoot.insight.tracing import credits_of
from surefoot.runs import Run, Store, Trial
from surefoot.spec import to_dict

FALLING = [3.0 * 0.97**step + 0.05 * (step % 3) for step in range(60)]
EXPLODING = [*FALLING[:30], 900.0, *FALLING[30:]]
ALONG_A_PATH = network(5, 8, 1)


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return made(tmp_path_factory.mktemp("policies"))


@pytest.fixture(scope="module")
def seeing_gradients(tmp_path_factory):
    return made(tmp_path_factory.mktemp("policies"), tier="gradient")


@pytest.fixture(scope="module")
def found(name):
    return trace(Learned(name, steps=61), EXPLODING, base=0.1)


@pytest.fixture(scope="module")
def html(found):
    pytest.importorskip("vl_convert")
    return page.render(found, name="losses.csv", command="surefoot explain losses.csv", notes=["<b>A note</b>"])


def scales(policy, losses):
    state = policy.init()
    for loss in losses:
        yield state.scale
        state = policy.update(state, loss)


def run_of(policy, losses, seed=3, **settings):
    """A run of a store that the policy drove."""
    trial = Trial("wine-mlp", 1, "sgd", to_dict(policy), 0.1, len(losses), 1, seed, "")
    rates = np.array([0.1 * scale for scale in scales(policy, losses)], np.float32)
    nothing = np.zeros(0, np.float32)
    return Run(trial, np.array(losses, np.float32), rates, nothing, nothing, "finished", 1.0, **settings)


def explain(*words):
    return CliRunner().invoke(app, ["explain", *map(str, words)], env={"COLUMNS": "200", "NO_COLOR": "1"})


@given(losses=st.lists(st.floats(0.01, 100.0) | st.just(nan), min_size=1, max_size=30))
def test_the_rates_are_those_that_the_policy_sets(name, losses):
    policy = Learned(name, steps=30)
    assert [row.rate for row in trace(policy, losses, base=0.5).rows] == [0.5 * scale for scale in scales(policy, losses)]


def test_a_decision_stands_where_the_windows_begin(name):
    assert [row.step for row in trace(Learned(name, steps=20), FALLING[:12]).decisions] == [0, 1, 3, 6, 9]


def test_an_alarm_is_told_and_the_short_windows_after_it(found):
    assert "alarm" in found.rows[30].guard.split(",")
    assert [row.step for row in found.decisions if "first" in row.guard.split(",")] == [0, 1, 31, 32]


def test_a_network_that_asks_for_too_much_is_told(tmp_path):
    wild = Learned(made(tmp_path, seed=5), steps=60)
    rows = trace(wild, EXPLODING).decisions
    assert all(("limit" in row.guard) == (abs(row.action) == 1.0) for row in rows)


@given(view=st.lists(st.floats(-4.0, 4.0), min_size=5, max_size=5))
def test_credits_add_up_to_what_the_network_says(view):
    at_rest = ALONG_A_PATH((0.0,) * 5)
    assert isclose(credits_of(ALONG_A_PATH, view).sum(), ALONG_A_PATH(tuple(view)) - at_rest, abs_tol=0.02)


def test_on_its_own_rates_the_advice_is_what_it_did(name):
    policy = Learned(name, steps=61)
    own = trace(policy, FALLING, base=0.1)
    advised = trace(policy, FALLING, base=0.1, rates=[row.rate for row in own.rows])
    assert advised.advised
    assert [row.action for row in advised.rows] == pytest.approx([row.action for row in own.rows])


def test_other_rates_are_what_it_sees_in_a_log(name):
    found = trace(Learned(name), FALLING, base=1.0, rates=[16.0] * 60)
    assert found.rows[-1].features["scale"] == 1.0
    assert {row.rate for row in found.rows} == {16.0}


def test_signals_that_the_policy_sees_have_to_be_there(seeing_gradients):
    with pytest.raises(ValueError, match="sees alignment, relative_step as well"):
        trace(Learned(seeing_gradients), FALLING)
    signals = {"alignment": [0.5] * 60, "relative_step": [0.01] * 60}
    assert trace(Learned(seeing_gradients), FALLING, signals=signals).rows[-1].features["alignment"] == 1.0


def test_each_loss_has_a_rate(name):
    with pytest.raises(ValueError, match="rates must be one for each of 60 losses, got 2"):
        trace(Learned(name), FALLING, rates=[0.1, 0.1])


@pytest.mark.parametrize(
    "text",
    [
        "loss,rate\n3,0.1\n2,0.2\n",
        "step,rate,loss\n0,0.1,3\n1,0.2,2\n",
        "3,0.1\n2,0.2\n",
        '{"loss": 3, "rate": 0.1}\n{"loss": 2, "rate": 0.2, "more": 1}\n',
        "[3, 0.1]\n[2, 0.2]\n",
    ],
)
def test_logs_come_in_many_forms(tmp_path, text):
    path = tmp_path / "losses"
    path.write_text(text)
    found = log.from_file(path)
    assert (found.losses, found.rates) == ([3.0, 2.0], [0.1, 0.2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("when,what\n1,2\n", "one of them loss"),
        ("loss\n3\nlow\n", "row 2 of .* must have a number for loss, got 'low'"),
        ('{"loss": 1}\n{"loss"\n', "line 2 of .* must be JSON"),
        ("loss,rate\n1,-1\n", "0 or more"),
    ],
)
def test_logs_that_are_none_are_refused(tmp_path, text, said):
    path = tmp_path / "losses"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        log.from_file(path)


def test_what_is_no_number_in_json_is_a_loss_that_is_not_finite(tmp_path):
    path = tmp_path / "losses.jsonl"
    path.write_text('{"loss": 1.0}\n{"loss": null}\n')
    assert not log.from_file(path).losses[1] < inf


def test_a_run_is_found_by_its_key_and_by_what_it_is(name):
    with Store(":memory:") as store:
        for seed in range(3):
            store.add(run_of(Learned(name, steps=60), FALLING, seed))
        first = next(iter(store)).trial
        assert log.from_store(store, first.key[:10]).trial == first
        assert log.from_store(store, f"wine-mlp/{name}/2").trial.seed == 2
        with pytest.raises(ValueError, match="no run is called 'wine-mlp/greedy/0'"):
            log.from_store(store, "wine-mlp/greedy/0")


def test_the_command_explains_a_run_of_a_store(name, tmp_path):
    pytest.importorskip("vl_convert")
    with Store(tmp_path / "runs.sqlite") as store:
        store.add(run_of(Learned(name, steps=61), EXPLODING))
    done = explain(f"wine-mlp/{name}/3", "--store", tmp_path / "runs.sqlite", "--page", tmp_path / "page.html", "--json")
    told = json.loads(done.stdout)
    assert "as the store has them" in told["notes"][0]
    assert len(told["rows"]) == 61
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_the_command_says_what_a_log_does_not(name, tmp_path):
    pytest.importorskip("vl_convert")
    (tmp_path / "losses.csv").write_text("loss,rate\n" + "".join(f"{loss},0.3\n" for loss in FALLING))
    done = explain(tmp_path / "losses.csv", "--policy", name, "--page", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "Nothing followed its advice" in done.output.replace("\n", " ")
    assert "a base of 0.3" in done.output.replace("\n", " ")


def test_a_log_needs_a_policy(tmp_path):
    (tmp_path / "losses.csv").write_text("loss\n1\n")
    done = explain(tmp_path / "losses.csv")
    assert done.exit_code == 2
    assert "name one with --policy" in done.output


def test_a_file_that_is_not_there_is_refused():
    done = explain("nowhere.csv", "--policy", "nmf")
    assert done.exit_code == 2
    assert "there is no file nowhere.csv" in done.output


def test_the_page_tells_every_decision_and_nothing_from_outside(html, found):
    assert html.count("<tr><td>") == len(page.shown(found))
    assert "&lt;b&gt;A note" in html


def test_the_page_opens_in_a_browser_light_and_dark(browser, html, tmp_path, found):
    with browsing.opened(browser, html, tmp_path) as opened:
        assert opened.locator("#figure-0 svg .mark-symbol path").count() >= len(found.decisions)
        assert opened.locator("#figure-1 svg .mark-rect path").count() > len(found.decisions)
        assert opened.locator("#figure-2 svg .mark-line path").count() >= len(found.rows[0].features)
        assert opened.evaluate("document.documentElement.scrollWidth") <= 1280
        assert opened.evaluate("[...document.querySelectorAll('figure')].every(each => each.scrollWidth <= each.clientWidth)")
        opened.emulate_media(color_scheme="dark")
        opened.wait_for_selector("html[data-drawn=dark]")
        assert opened.locator(f"#figure-1 .mark-rect path[fill='{vega.DARK[0]}']").count() > 0
