"""Policies in the Trainer of Hugging Face: small transformers, fine-tuned in earnest."""

import inspect
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

pytest.importorskip("transformers")

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from processes import in_processes, like_torchrun
from surefoot import Cosine, Greedy, schedule
from surefoot.hf import PolicyCallback
from surefoot.torch import PolicyLR

QUICK = Greedy(factor=0.5, patience=0, window=1)
RATE = 1e-3
BLOCK = 24


class NotedState(NamedTuple):
    scale: float = 1.0


@dataclass(frozen=True)
class Noted:
    """The base rate throughout, and a note of every loss that came by."""

    losses: list = field(default_factory=list)

    def init(self):
        return NotedState()

    def update(self, state, loss, **signals):
        self.losses.append(loss)
        return state


class Watching(TrainerCallback):
    """What a tracker gets to see."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append({**logs, "step": state.global_step})


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """These models are too small to be shared between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def language_model():
    """It predicts the next byte."""
    set_seed(0)
    sizes = {"vocab_size": 128, "n_positions": BLOCK, "n_embd": 32, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, resid_pdrop=0.1))


def source(count=48):
    """Python's own source, in blocks of which the last bytes, of some more than of others, and the first are not predicted."""
    data = torch.tensor([letter for letter in inspect.getsource(inspect).encode() if letter < 128])  # It is in English.
    blocks = data[: count * BLOCK].reshape(count, BLOCK)
    return [{"input_ids": block, "labels": _masked(block, place % 5)} for place, block in enumerate(blocks)]


def _masked(block, count):
    labels = block.clone()
    labels[0] = -100
    labels[BLOCK - 3 * count :] = -100
    return labels


def classifier():
    """It reads a digit line by line."""
    set_seed(0)
    sizes = {"vocab_size": 17, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(**sizes, intermediate_size=64, max_position_embeddings=64, num_labels=10)
    return BertForSequenceClassification(config)


def digits(count=48):
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    images, labels = load_digits(return_X_y=True)
    pairs = zip(images[:count], labels[:count], strict=True)
    return [{"input_ids": torch.tensor(image, dtype=torch.long), "labels": int(label)} for image, label in pairs]


def accuracy(predicted):
    return {"accuracy": float(np.mean(predicted.predictions.argmax(axis=1) == predicted.label_ids))}


def arguments(folder, **settings):
    usual = {
        "output_dir": str(folder),
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 48,
        "learning_rate": RATE,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(**{**usual, **settings})


def trained(folder, *callbacks, resume=None, model=None, kind=Trainer, given=None, **settings):
    """A Trainer after its training; `given` are what it is given besides arguments."""
    model = model or language_model()
    given = {"train_dataset": source(), "callbacks": list(callbacks), **(given or {})}
    if "optimizers" in given:
        given["optimizers"] = given["optimizers"](model)
    trainer = kind(model, arguments(folder, **settings), **given)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def evaluated(folder, callback, **settings):
    """A classifier that is evaluated every second step."""
    given = {"train_dataset": digits(), "eval_dataset": digits(), "compute_metrics": accuracy, **settings.pop("given", {})}
    settings = {"eval_strategy": "steps", "eval_steps": 2, **settings}
    return trained(folder, callback, model=classifier(), given=given, **settings)


def logged(trainer, name):
    return [row[name] for row in trainer.state.log_history if name in row]


def told(trainer):
    """All that a training logged but for the time that it took."""
    return [row for row in trainer.state.log_history if "train_runtime" not in row]


def by_hand(policy, losses):
    """The rates of all steps: the first is the base rate, the last one's is never used."""
    return [RATE * state.scale for state in schedule(policy, losses)][: len(losses)]


def test_one_line_lets_a_policy_set_every_rate_from_the_losses_of_a_fine_tuning(tmp_path):
    trainer = trained(tmp_path, PolicyCallback(QUICK), max_steps=40)
    losses = logged(trainer, "loss")
    assert losses[-1] < 0.8 * losses[0]
    assert logged(trainer, "learning_rate") == by_hand(QUICK, losses)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two epochs and a half: after 3, 9 and 12 steps, an epoch is not over."""
    folder = tmp_path_factory.mktemp("whole")
    return trained(folder, PolicyCallback(QUICK), max_steps=15, save_strategy="steps", save_steps=3)


@pytest.mark.parametrize("cut", [3, 6, 9, 12])
def test_a_training_that_is_resumed_equals_one_that_never_stopped(tmp_path, whole, cut):
    checkpoint = f"{whole.args.output_dir}/checkpoint-{cut}"
    resumed = trained(tmp_path, PolicyCallback(QUICK), max_steps=15, resume=checkpoint)
    assert told(resumed) == told(whole)
    assert resumed.lr_scheduler.state == whole.lr_scheduler.state


def test_a_second_training_by_the_same_trainer_begins_a_new_schedule(tmp_path, whole):
    trainer = trained(tmp_path, PolicyCallback(QUICK), max_steps=3)
    first = trainer.lr_scheduler
    trainer.train()
    assert trainer.lr_scheduler is not first
    assert logged(trainer, "learning_rate")[0] == RATE
    assert trainer.lr_scheduler.last_epoch == 3


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_loss_of_a_step_is_the_mean_over_all_of_its_tokens(tmp_path, parts):
    noted, model = Noted(), language_model().eval()
    with torch.no_grad():
        expected = [token_losses(model, batch).mean().item() for batch in batches(source())]
    seen_at_rest(tmp_path, noted, parts)
    assert noted.losses == pytest.approx(expected, rel=1e-6)


def test_a_loss_that_is_computed_outside_the_model_is_seen(tmp_path):
    def squared(outputs, labels, num_items_in_batch=None):
        return outputs["logits"].square().sum() / num_items_in_batch

    noted, model = Noted(), language_model().eval()
    with torch.no_grad():
        expected = [
            (model(torch.stack([row["input_ids"] for row in batch])).logits.square().sum() / tokens(batch)).item()
            for batch in batches(source())
        ]
    seen_at_rest(tmp_path, noted, 2, given={"compute_loss_func": squared})
    assert noted.losses == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_is_seen(tmp_path):
    noted, model = Noted(), language_model().eval()
    with torch.no_grad():
        expected = [token_losses(model, batch, label_smoothing=0.1).mean().item() for batch in batches(source())]
    seen_at_rest(tmp_path, noted, 1, label_smoothing_factor=0.1)
    assert noted.losses == pytest.approx(expected, rel=1e-5)


def seen_at_rest(folder, policy, parts, **settings):
    """A training that never moves, so that every loss can be found again."""
    model = language_model()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    order = {"train_sampling_strategy": "sequential", "learning_rate": 0.0, "max_steps": 6}
    sizes = {"per_device_train_batch_size": 8 // parts, "gradient_accumulation_steps": parts}
    return trained(folder, PolicyCallback(policy), model=model, **order, **sizes, **settings)


def batches(rows, size=8):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def tokens(batch):
    return sum(int((row["labels"][1:] != -100).sum()) for row in batch)


def token_losses(model, batch, **settings):
    """The loss of every byte that is to be predicted."""
    inputs, labels = (torch.stack([row[name] for row in batch]) for name in ("input_ids", "labels"))
    logits, labels = model(inputs).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return cross_entropy(logits[labels != -100], labels[labels != -100], reduction="none", **settings)


def test_a_step_that_a_gradient_scaler_leaves_out_is_no_step_of_the_schedule(tmp_path):
    noted, model = Noted(), language_model()
    factors = iter([float("inf")])
    model.transformer.wpe.weight.register_hook(lambda gradient: gradient * next(factors, 1.0))
    settings = arguments(tmp_path, max_steps=4, max_grad_norm=0.0, optim="adamw_torch")  # A fused one hides what it leaves out.
    trainer = Trainer(model, settings, train_dataset=source(), callbacks=[PolicyCallback(noted)])
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")  # Half precision needs an accelerator, a scaler does not.
    trainer.train()
    assert noted.losses == logged(trainer, "loss")[1:]
    assert trainer.lr_scheduler.last_epoch == 3


@pytest.mark.parametrize("policy", [Greedy(factor=0.5, patience=0), Greedy(factor=0.5, patience=0, mode="max")])
def test_at_evaluations_the_policy_goes_by_the_metric_in_its_direction(tmp_path, policy):
    trainer = evaluated(tmp_path, PolicyCallback(policy, metric="accuracy"))
    accuracies = logged(trainer, "eval_accuracy")
    assert len(accuracies) == 6
    scales = [state.scale for state in schedule(Greedy(factor=0.5, patience=0, mode="max"), accuracies)]
    assert logged(trainer, "learning_rate") == [RATE * scale for scale in scales[:-1] for _ in range(2)]


def test_at_evaluations_a_training_that_is_resumed_equals_one_that_never_stopped(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 4}
    whole = evaluated(tmp_path / "whole", PolicyCallback(QUICK, metric="eval_loss"), warmup_steps=3, **settings)
    for cut in (4, 8):  # A checkpoint follows on the evaluation of its step.
        checkpoint = tmp_path / "whole" / f"checkpoint-{cut}"
        callback = PolicyCallback(QUICK, metric="eval_loss")
        resumed = evaluated(tmp_path / "resumed", callback, warmup_steps=3, resume=str(checkpoint))
        untimed = [
            [{k: v for k, v in row.items() if "second" not in k and "time" not in k} for row in told(trainer)]
            for trainer in (whole, resumed)
        ]
        assert untimed[0] == untimed[1]


def test_an_evaluation_before_the_first_step_or_after_the_last_does_not_count(tmp_path):
    noted = Noted()
    trainer = evaluated(tmp_path, PolicyCallback(noted, metric="eval_loss"), eval_on_start=True, max_steps=4)
    trainer.evaluate()
    assert noted.losses == logged(trainer, "eval_loss")[1:3]


def test_the_metric_may_be_that_of_one_data_set_among_several(tmp_path):
    noted, sets = Noted(), {"small": digits(8), "large": digits(16)}
    callback = PolicyCallback(noted, metric="eval_large_loss")
    trainer = evaluated(tmp_path, callback, given={"eval_dataset": sets}, max_steps=4)
    assert noted.losses == logged(trainer, "eval_large_loss")


def test_a_metric_of_another_name_goes_in_the_direction_that_the_trainer_was_told(tmp_path):
    noted = Noted()
    given = {"compute_metrics": lambda predicted: {"goodness": accuracy(predicted)["accuracy"]}}
    settings = {"metric_for_best_model": "goodness", "greater_is_better": True, "max_steps": 4, "given": given}
    trainer = evaluated(tmp_path, PolicyCallback(noted, metric="goodness"), **settings)
    assert noted.losses == [-value for value in logged(trainer, "eval_goodness")]


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("f1", {}, "no evaluation measures eval_f1, there are epoch, eval_accuracy, eval_loss"),
        ("loss", {"eval_strategy": "no", "eval_steps": None}, "eval_loss is measured at evaluations, and there are none"),
        ("goodness", {}, "whether a higher eval_goodness is better cannot be told from its name"),
    ],
)
def test_a_metric_that_cannot_be_followed_is_refused(tmp_path, metric, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluated(tmp_path, PolicyCallback(Greedy(), metric=metric), **settings)


@pytest.mark.parametrize("warmup", [4, 0.25])
def test_the_warmup_of_the_arguments_comes_first_and_the_policy_sees_none_of_it(tmp_path, warmup):
    trainer = trained(tmp_path, PolicyCallback(QUICK), warmup_steps=warmup, max_steps=16)
    rates, losses = logged(trainer, "learning_rate"), logged(trainer, "loss")
    assert rates[:4] == pytest.approx([RATE * part for part in (0.01, 0.2575, 0.505, 0.7525)])
    assert rates[4:] == by_hand(QUICK, losses[4:])


def test_at_evaluations_a_warmup_is_of_optimizer_steps(tmp_path):
    noted = Noted()
    trainer = evaluated(tmp_path, PolicyCallback(noted, metric="eval_loss"), warmup_steps=3, max_steps=6)
    assert logged(trainer, "learning_rate") == pytest.approx([RATE * part for part in (0.01, 0.34, 0.67, 1.0, 1.0, 1.0)])
    assert noted.losses == logged(trainer, "eval_loss")[1:]


@pytest.mark.parametrize(
    ("callback", "steps"), [(PolicyCallback(Cosine(steps=1)), 6), (PolicyCallback(Cosine(1), total_steps=9), 9)]
)
def test_a_policy_made_for_a_budget_is_told_the_length_of_the_run(tmp_path, callback, steps):
    trainer = trained(tmp_path, callback, warmup_steps=2, max_steps=8)
    assert logged(trainer, "learning_rate")[2:] == by_hand(Cosine(steps=steps), [0.0] * 6)


def optimizers(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    return optimizer, PolicyLR(optimizer, QUICK)


def test_a_scheduler_that_the_trainer_was_given_is_fed(tmp_path):
    trainer = trained(tmp_path, PolicyCallback(), given={"optimizers": optimizers})
    assert logged(trainer, "learning_rate") == by_hand(QUICK, logged(trainer, "loss"))


def test_a_scheduler_that_the_trainer_was_given_goes_on_after_a_resume(tmp_path):
    settings = {"given": {"optimizers": optimizers}, "max_steps": 8}
    whole = trained(tmp_path, PolicyCallback(), save_strategy="steps", save_steps=5, **settings)
    resumed = trained(tmp_path / "resumed", PolicyCallback(), resume=str(tmp_path / "checkpoint-5"), **settings)
    assert told(resumed) == told(whole)


def test_without_the_callback_a_scheduler_that_the_trainer_was_given_says_that_it_gets_no_loss(tmp_path):
    with pytest.warns(UserWarning, match=r"step\(\) got no loss and none was observed, so Greedy leaves the rate as it is"):
        trainer = trained(tmp_path, given={"optimizers": optimizers}, max_steps=2)
    assert logged(trainer, "learning_rate") == [RATE, RATE]


@pytest.mark.parametrize(
    ("callbacks", "given", "message"),
    [
        (2 * [PolicyCallback(QUICK)], {}, r"a PolicyCallback was added twice, .* \(leave one out\)"),
        ([PolicyCallback(QUICK), PolicyCallback(Greedy())], {}, "a PolicyCallback was added twice"),
        ([PolicyCallback], {}, r"that the Trainer was given, got None \(PolicyCallback\(Greedy\(\)\)"),
        ([PolicyCallback(QUICK)], {"optimizers": optimizers}, "two masters, a PolicyLR and PolicyCallback.Greedy"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_callbacks_that_would_not_go_well_are_refused_by_the_trainers_constructor(tmp_path, callbacks, given, message):
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, *callbacks, given=given)


@pytest.mark.parametrize(
    ("first", "message"), [([], "must be there when the Trainer is made"), ([PolicyCallback(QUICK)], "was added twice")]
)
def test_a_callback_that_comes_late_is_refused(tmp_path, first, message):
    trainer = Trainer(language_model(), arguments(tmp_path), train_dataset=source(), callbacks=first)
    trainer.add_callback(PolicyCallback(QUICK))
    with pytest.raises(ValueError, match=message):
        trainer.train()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PolicyCallback(Greedy), TypeError, "got the class Greedy"),
        (lambda: PolicyCallback(metric="accuracy"), ValueError, "metric and total_steps are for the callback's own policy"),
        (lambda: PolicyCallback(Greedy(mode="max")), ValueError, "takes a higher loss for better, and lower ones are"),
        (lambda: PolicyCallback(Greedy(), total_steps=10), ValueError, "total_steps is for policies whose `steps`"),
    ],
)
def test_mistakes_are_refused_at_the_door(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_every_change_is_kept_in_the_step_that_it_happened_in(tmp_path, whole):
    losses = logged(whole, "loss")
    scales = [state.scale for state in schedule(QUICK, losses)]
    changed = [(step, scale) for step, scale in enumerate(scales) if step and scale != scales[step - 1]]
    rows = [row for row in whole.state.log_history if "surefoot/scale" in row]
    assert [(row["step"], row["surefoot/scale"]) for row in rows] == changed
    assert [row["surefoot/rate"] for row in rows] == [RATE * scale for _, scale in changed]
    assert {row["surefoot/reason"] for row in rows} == {"raised: 1 better in a row", "lowered: 1 not better in a row"}


def test_trackers_are_told_at_logging_steps_with_all_the_reasons_since(tmp_path):
    watching = Watching()
    trainer = trained(tmp_path, PolicyCallback(QUICK), watching, logging_steps=6)
    rows = [row for row in trainer.state.log_history if "surefoot/scale" in row]
    events = [row for row in watching.logs if "surefoot/scale" in row]
    assert [row["step"] for row in events] == [6, 12]
    for event, first in zip(events, (1, 7), strict=True):
        mine = [row for row in rows if first <= row["step"] < first + 6]
        assert event["surefoot/rate"] == mine[-1]["surefoot/rate"]
        assert event["surefoot/reason"].split("\n") == [f"step {row['step']}: {row['surefoot/reason']}" for row in mine]


def test_tensorboard_receives_numbers_as_scalars_and_the_reason_as_text(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = trained(tmp_path, PolicyCallback(QUICK), report_to="tensorboard", max_steps=4)
    board = accumulator.EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    rows = [row for row in trainer.state.log_history if "surefoot/scale" in row]
    for name in ("surefoot/rate", "surefoot/scale"):
        seen = [(event.step, event.value) for event in board.Scalars(f"train/{name}")]
        assert seen == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows]
    texts = [event.tensor_proto.string_val[0].decode() for event in board.Tensors("train/surefoot/reason/text_summary")]
    assert texts == [f"step {row['step']}: {row['surefoot/reason']}" for row in rows]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks transformers for it.
def test_adapters_of_peft_are_trained_and_resumed_alike(tmp_path):
    peft = pytest.importorskip("peft")

    def adapted():
        low = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], r=2, fan_in_fan_out=True)
        return peft.get_peft_model(language_model(), low)

    settings = {"max_steps": 8, "learning_rate": RATE}
    whole = trained(tmp_path, PolicyCallback(QUICK), model=adapted(), save_strategy="steps", save_steps=5, **settings)
    checkpoint = str(tmp_path / "checkpoint-5")
    resumed = trained(tmp_path / "resumed", PolicyCallback(QUICK), model=adapted(), resume=checkpoint, **settings)
    assert logged(whole, "learning_rate") == by_hand(QUICK, logged(whole, "loss"))
    assert told(resumed) == told(whole)


def test_the_trainer_of_trl_is_one_like_any_other(tmp_path):
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: place for place, letter in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz _."])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<unk>"))  # noqa: S106 - no secret
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    processing = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    lines = [line.strip() for line in inspect.getsource(inspect).splitlines() if len(line) > 20]
    data = Dataset.from_dict({"text": lines[:32]})
    steps = {"max_steps": 6, "save_steps": 3, "logging_steps": 1, "gradient_accumulation_steps": 2, "learning_rate": RATE}
    small = {"per_device_train_batch_size": 4, "max_length": BLOCK, "bf16": False, "activation_checkpointing": False}

    def tuned(folder, resume=None):
        trainer = trl.SFTTrainer(
            language_model(),
            args=trl.SFTConfig(output_dir=folder, use_cpu=True, disable_tqdm=True, **steps, **small),
            train_dataset=data,
            processing_class=processing,
            callbacks=[PolicyCallback(QUICK)],
        )
        trainer.train(resume_from_checkpoint=resume)
        return [logged(trainer, name) for name in ("loss", "learning_rate", "surefoot/reason")]

    whole = tuned(str(tmp_path))
    assert whole[1] == by_hand(QUICK, whole[0])
    assert tuned(str(tmp_path / "resumed"), str(tmp_path / "checkpoint-3")) == whole


def in_two(rank, folder):
    """What each of two processes computed, what its policy was handed, what was logged, and the rates."""
    like_torchrun(rank)
    own = []

    class Telling(Trainer):
        def training_step(self, *args, **settings):
            own.append(super().training_step(*args, **settings))
            return own[-1]

    noted = Noted()
    settings = {"given": {"train_dataset": source(64)}, "max_steps": 4, "gradient_accumulation_steps": 2}
    trained(f"{folder}/noted", PolicyCallback(noted), kind=Telling, **settings)
    trainer = trained(f"{folder}/quick", PolicyCallback(QUICK), max_steps=6)
    return [loss.item() for loss in own], noted.losses, logged(trainer, "loss"), logged(trainer, "learning_rate")


def test_the_loss_is_the_mean_over_processes_and_all_of_them_have_the_same_rate(tmp_path):
    (own, noted, losses, rates), (own_there, noted_there, *there) = in_processes(in_two, str(tmp_path))
    assert own != own_there
    steps = torch.tensor([own, own_there]).reshape(2, -1, 2).sum(dim=2).mean(dim=0)
    assert noted == noted_there == steps.tolist()
    assert [losses, rates] == there
    assert rates == by_hand(QUICK, losses)
