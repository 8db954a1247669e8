"""Loss logs of every kind can be read, and policies folded over them."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import browsing
from policy_files import made
from surefoot import Greedy, Learned, schedule
from surefoot.cli import app
from surefoot.loss_log import LossLog, read
from surefoot.replay import page, replay

LOSSES = [2.0 * 0.98**step + 0.05 * (step % 3) for step in range(120)] + [0.5 + 0.01 * (step % 3) for step in range(60)]
RATES = [0.1 if step < 100 else 0.01 for step in range(180)]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text("loss,rate\n" + "".join(f"{loss},{rate}\n" for loss, rate in zip(LOSSES, RATES, strict=True)))
    return path


def run(*words):
    return CliRunner().invoke(app, ["replay", *map(str, words)], env={"COLUMNS": "200", "NO_COLOR": "1"})


def written(tmp_path, text, name="losses"):
    path = tmp_path / name
    path.write_text(text)
    return path


@given(losses=st.lists(st.floats(0.01, 100.0), min_size=1, max_size=60))
def test_the_scales_are_those_that_the_policy_would_set(losses):
    policy = Greedy(factor=0.5, patience=1, window=2)
    assert replay(policy, losses).scales == [state.scale for state in schedule(policy, losses)][1:]


def test_changes_have_the_steps_of_the_log():
    found = replay(Greedy(factor=0.5, patience=0, window=1), [3.0, 2.0, 4.0], steps=[10, 20, 30], base=0.1)
    assert [(change.step, change.rates, change.reason) for change in found.changes] == [
        (10, (0.2,), "raised: 1 better in a row"),
        (20, (0.4,), "raised: 1 better in a row"),
        (30, (0.2,), "lowered: 1 not better in a row"),
    ]


def test_a_policy_that_sees_more_is_told_it_or_refused(tmp_path):
    policy = Learned(made(tmp_path, tier="gradient"), steps=len(LOSSES))
    with pytest.raises(ValueError, match="must be told alignment, relative_step"):
        replay(policy, LOSSES)
    signals = {"alignment": [0.5] * len(LOSSES), "relative_step": [0.01] * len(LOSSES)}
    assert len(replay(policy, LOSSES, signals=signals).scales) == len(LOSSES)


@pytest.mark.parametrize(
    ("text", "settings", "found"),
    [
        ("step,train/loss,lr\n10,3,0.1\n20,2,0.1\n", {}, ([10, 20], [3.0, 2.0], [0.1, 0.1])),
        ('"Step","run-1 - train/loss","run-1 - train/loss__MIN"\n5,3,1\n6,2,1\n', {}, ([5, 6], [3.0, 2.0], None)),
        ("epoch,step,train_loss,val_loss\n0,9,3,\n0,9,,2.5\n0,19,2,\n", {}, ([9, 19], [3.0, 2.0], None)),
        ("run,key,value,step\na,l,3,1\na,l,2,2\n", {"column": "value"}, ([1, 2], [3.0, 2.0], None)),
        ('{"loss": 3, "step": 1}\n{"eval_loss": 9, "step": 1}\n{"loss": 2, "step": 2}\n', {}, ([1, 2], [3.0, 2.0], None)),
        ("3\n2\n", {}, ([1, 2], [3.0, 2.0], None)),
    ],
    ids=["named", "weights and biases", "lightning", "mlflow", "json lines", "numbers"],
)
def test_logs_of_trackers_are_read(tmp_path, text, settings, found):
    log = read(written(tmp_path, text), **settings)
    assert (log.steps, log.losses, log.rates) == found


def test_the_state_of_a_trainer_is_read_and_its_folder(tmp_path):
    callback = pytest.importorskip("transformers.trainer_callback")
    history = [{"loss": 3.0, "grad_norm": 1.0, "learning_rate": 5e-5, "epoch": 0.1, "step": 10}]
    history += [{"eval_loss": 2.9, "epoch": 0.1, "step": 10}, {"loss": 2.0, "learning_rate": 4e-5, "epoch": 0.2, "step": 20}]
    history += [{"train_runtime": 1.0, "train_loss": 2.5, "epoch": 0.2, "step": 20}]
    callback.TrainerState(log_history=history).save_to_json(str(tmp_path / "trainer_state.json"))
    found = LossLog("trainer_state.json", [10, 20], [3.0, 2.0], [5e-5, 4e-5], {})
    assert read(tmp_path / "trainer_state.json") == read(tmp_path) == found


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """What PyTorch's own writer makes."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    folder = tmp_path_factory.mktemp("events")
    with SummaryWriter(folder) as writer:
        for step in range(0, 40, 4):
            writer.add_scalar("train/loss", 4.0 / (1 + step), step)
            writer.add_scalar("eval/loss", 5.0, step)
            writer.add_scalar("other", 1.0, step)
            if step % 8 == 0:
                writer.add_scalar("train/learning_rate", 0.5 / (1 + step), step)
    return folder


def test_a_folder_of_tensorboard_is_read(events):
    found = read(events)
    assert found.steps == list(range(0, 40, 4))
    assert found.losses == pytest.approx([4.0 / (1 + step) for step in found.steps])
    assert found.rates == pytest.approx([0.5 / (1 + step // 8 * 8) for step in found.steps])


def test_a_tag_of_tensorboard_is_asked_for_by_name(events):
    assert set(read(events, tag="eval/loss").losses) == {5.0}
    with pytest.raises(ValueError, match="has no 'loss' among its tags: eval/loss, other, train/learning_rate, train/loss"):
        read(events, tag="loss")


def test_a_folder_without_events_is_refused(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(ValueError, match="with scalars in it, and there are none"):
        read(tmp_path)


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("a_loss,b_loss\n1,2\n", {}, r"got a_loss, b_loss \(say with --column which"),
        ("loss,b\n1,2\n", {"column": "c"}, "has no 'c' among its columns: loss, b"),
        ("1\n2\n", {"column": "c"}, "must name its columns for 'c' to be one, got '1'"),
        ("loss\n1\n", {"tag": "a"}, "--tag names a loss in TensorBoard"),
        ("loss,b\n,1\n", {}, "loss is empty on all"),
        ("loss,lr\n1,nan\n", {}, "must be finite and 0 or more"),
    ],
)
def test_what_is_not_clear_is_refused_in_a_sentence(tmp_path, text, settings, said):
    with pytest.raises(ValueError, match=said):
        read(written(tmp_path, text), **settings)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "losses.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="must be text"):
        read(tmp_path / "losses.csv")


def test_the_command_tells_changes_and_that_losses_would_have_been_others(log, tmp_path):
    pytest.importorskip("vl_convert")
    done = run(log, "--policy", "greedy(window=20)", "--policy", "cosine,plateau", "--page", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "they would have been different" in done.output.replace("\n", " ")
    assert "11 better in a row" in done.output
    assert "cosine: No decisions; rate 0 at the end." in done.output
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_the_command_prints_json_and_nothing_else(log, tmp_path):
    pytest.importorskip("vl_convert")
    told = json.loads(run(log, "--base", 0.5, "--page", tmp_path / "page.html", "--json").stdout)
    assert told["policies"][0]["policy"] == "greedy"
    first = told["policies"][0]["changes"][0]
    assert first["rate"] == 0.5 * first["scale"]
    assert len(told["policies"][0]["scales"]) == len(told["losses"]) == len(LOSSES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.csv"], "there is no file nowhere.csv"),
        (["{log}", "--policy", "gready"], "no policy is called 'gready'"),
        (["{log}", "--policy", "greedy(window=0)"], "window must be"),
        (["{log}", "--column", "x"], "has no 'x' among its columns"),
        (["{log}", "--steps", "0"], "steps must be a whole number, 1 or more"),
        (["{log}", "--base", "-1"], "base must be"),
        (["{log}", "--policy", "learned-networks-gradient"], "must be told alignment, relative_step"),
    ],
)
def test_bad_input_leaves_with_2_and_a_sentence(log, tmp_path, words, said):
    done = run(*(word.format(log=log) for word in words), "--page", tmp_path / "page.html")
    assert done.exit_code == 2
    assert said in done.output.replace("\n", " ")
    assert not (tmp_path / "page.html").exists()


def test_a_log_of_every_tenth_step_says_what_patience_counts():
    log = LossLog("a", [10, 20, 30], [3.0, 2.0, 1.0], None, {})
    assert "a loss every 10 steps" in page.notes(log, None)[0]
    assert "has no rates" in page.notes(log, None)[1]


def test_the_page_opens_in_a_browser_light_and_dark(browser, log, tmp_path):
    pytest.importorskip("vl_convert")
    found = read(log)
    policies = {"greedy<b>": Greedy(window=10), "quick": Greedy(window=5, patience=3)}
    made = [replay(policy, found.losses, base=0.1, label=label) for label, policy in policies.items()]
    path = page.write(tmp_path / "replayed.html", found, made, base=0.1, command="surefoot replay losses.csv")
    html = path.read_text("utf-8")
    assert "greedy&lt;b&gt;" in html
    with browsing.opened(browser, html, tmp_path) as opened:
        assert opened.locator("#figure-0 svg .mark-line path").count() >= 4
        assert opened.locator("#figure-0 svg .mark-symbol path").count() > 4
        assert opened.evaluate("document.documentElement.scrollWidth") <= 1280
        opened.emulate_media(color_scheme="dark")
        opened.wait_for_selector("html[data-drawn=dark]")
        opened.set_viewport_size({"width": 390, "height": 800})
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_explain_reads_the_same_logs(tmp_path):
    pytest.importorskip("vl_convert")
    path = written(tmp_path, "step,my_loss,val_loss\n" + "".join(f"{step},{loss},1\n" for step, loss in enumerate(LOSSES)))
    done = CliRunner().invoke(
        app,
        ["explain", str(path), "--policy", made(tmp_path), "--column", "my_loss", "--page", str(tmp_path / "p.html"), "--json"],
    )
    assert [row["loss"] for row in json.loads(done.stdout)["rows"]] == LOSSES
