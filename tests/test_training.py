"""Trainings of every kind, small and real: what a scheduler meets besides a plain loop."""

import copy
import functools
import io
import pickle

import prodigyopt
import pytest
import schedulefree
import torch
from torch._dynamo.testing import CompileCounter
from torch.optim.lr_scheduler import LinearLR, SequentialLR

from processes import in_processes
from surefoot import Cosine, Greedy, schedule
from surefoot.torch import GreedyLR, PolicyLR, mean_over_ranks

EAGER = Greedy(factor=0.7, patience=1, window=3, max_scale=4.0)
MOMENTUM = functools.partial(torch.optim.SGD, lr=0.02, momentum=0.9)
ADAMW = functools.partial(torch.optim.AdamW, lr=0.02)


def batch(step, rank=0):
    """Inputs and targets, which are the same in every training."""
    inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(2 * step + rank))
    return inputs, inputs.mean(dim=1, keepdim=True).tanh()


def network():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    start = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=start)
    return model


class Training:
    """A network, its optimizer, its scheduler, and what they have been through."""

    def __init__(self, kind=ADAMW, policy=EAGER, *, on_device=None):
        self.model = network()
        self.optimizer = kind(self.model.parameters())
        self.scheduler = PolicyLR(self.optimizer, policy, on_device=on_device)
        self.losses, self.rates = [], []

    def loss(self, inputs, targets):
        return (self.model(inputs) - targets).square().mean()

    def step(self, step):
        loss = self.loss(*batch(step))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(loss)
        self.note(loss)

    def note(self, loss):
        self.losses.append(loss.item())
        self.rates.append(float(self.optimizer.param_groups[0]["lr"]))

    def steps(self, *span):
        for step in range(*span):
            self.step(step)
        return self

    @property
    def weights(self):
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()]).tolist()

    def checkpoint(self):
        """Everything, from a file that was read without trusting it."""
        file = io.BytesIO()
        torch.save({name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler")}, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def load(self, checkpoint, order=("model", "optimizer", "scheduler")):
        for name in order:
            getattr(self, name).load_state_dict(checkpoint[name])
        return self


@pytest.mark.parametrize("kind", [MOMENTUM, ADAMW, functools.partial(torch.optim.RMSprop, lr=0.005)])
def test_a_training_follows_its_losses_and_learns(kind):
    training = Training(kind).steps(120)
    base = training.scheduler.base_lrs[0]
    assert training.rates == [base * state.scale for state in schedule(EAGER, training.losses)][1:]
    assert len(set(training.rates)) > 10
    assert sum(training.losses[-20:]) < 0.3 * sum(training.losses[:20])


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_observing_micro_batches_equals_one_big_batch(parts):
    whole, split = Training(MOMENTUM), Training(MOMENTUM)
    for training in (whole, split):
        training.model.double()
    for step in range(40):
        inputs, targets = (half.double() for half in batch(step))
        loss = whole.loss(inputs, targets)
        whole.optimizer.zero_grad()
        loss.backward()
        whole.optimizer.step()
        whole.scheduler.step(loss)
        whole.note(loss)

        split.optimizer.zero_grad()
        for x, y in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
            loss = split.loss(x, y)
            (loss / parts).backward()
            split.scheduler.observe(loss)
        split.optimizer.step()
        split.scheduler.step()
        split.note(loss)
    assert split.rates == whole.rates
    assert split.weights == pytest.approx(whole.weights, rel=1e-12)


def scaled_step(training, scaler, step):
    """One step in float16; whether the optimizer made it. This is the pattern that the documentation recommends."""
    with torch.autocast("cpu", dtype=torch.float16):
        loss = training.loss(*batch(step))
    training.optimizer.zero_grad()
    scaler.scale(loss).backward()
    training.scheduler.observe(loss)
    before = scaler.get_scale()
    scaler.step(training.optimizer)
    scaler.update()
    training.note(loss)
    if scaler.get_scale() < before:
        return False
    training.scheduler.step()
    return True


def test_a_step_that_the_gradient_scaler_skips_is_no_step_of_a_schedule():
    training, scaler = Training(MOMENTUM, Cosine(steps=50)), torch.amp.GradScaler("cpu", init_scale=2.0**24)
    made = []
    for step in range(40):
        before = training.weights
        made.append(scaled_step(training, scaler, step))
        assert made[-1] == (training.weights != before)
    assert not made[0]
    assert sum(made) > 20
    assert training.scheduler.last_epoch == sum(made)


def test_the_losses_of_skipped_steps_go_into_the_mean_of_the_next():
    training, scaler = Training(MOMENTUM, Greedy(window=1)), torch.amp.GradScaler("cpu", init_scale=2.0**24)
    step = 0
    while not scaled_step(training, scaler, step):
        assert training.scheduler.state == Greedy(window=1).init()
        step += 1
    assert training.scheduler.state.best == pytest.approx(sum(training.losses) / (step + 1))


def test_a_training_in_half_precision_follows_its_losses_and_learns():
    training, scaler = Training(MOMENTUM), torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=20)
    for step in range(120):
        scaled_step(training, scaler, step)
    assert len(set(training.rates)) > 10
    assert sum(training.losses[-20:]) < 0.3 * sum(training.losses[:20])


def graphs(kind, *, method=False, steps=12):
    """How many graphs had been compiled after every step, and the rates."""
    torch._dynamo.reset()
    training, counter = Training(kind), CompileCounter()
    if method:
        training.optimizer.step = torch.compile(training.optimizer.step, backend=counter)
    else:
        training.optimizer.step = torch.compile(lambda step=training.optimizer.step: step(), backend=counter)
    return [training.step(step) or counter.frame_count for step in range(steps)], training


COMPILED = {
    "SGD": functools.partial(torch.optim.SGD, lr=0.02),
    "momentum": MOMENTUM,
    "AdamW": ADAMW,
    "AdamW, one by one": functools.partial(ADAMW, foreach=False),
    "AdamW, capturable": functools.partial(ADAMW, capturable=True),  # Outside a compiled step this needs an accelerator.
}


@pytest.mark.parametrize("method", [False, True], ids=["in a function", "as a method"])
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_optimizer_is_not_compiled_again_for_a_new_rate(name, method):
    counts, training = graphs(lambda params: COMPILED[name](params, lr=torch.tensor(0.02)), method=method)
    assert len(set(training.rates)) > 3
    assert counts[1:] == [counts[1]] * 11
    assert counts[1] <= 2  # Momentum begins at the second step.


@pytest.mark.parametrize("name", ["momentum", "AdamW"])
def test_a_compiled_optimizer_trains_as_a_plain_one_does(name):
    def kind(params):
        return COMPILED[name](params, lr=torch.tensor(0.02), foreach=False)

    _, compiled = graphs(kind)
    plain = Training(kind).steps(12)
    assert compiled.rates == pytest.approx(plain.rates)
    assert compiled.weights == pytest.approx(plain.weights, rel=1e-4, abs=1e-5)


def data_parallel(rank, agree):
    """The rates and weights of this rank after each of 30 steps on its own data."""
    training, path = Training(MOMENTUM), []
    training.model = torch.nn.parallel.DistributedDataParallel(training.model)
    for step in range(30):
        loss = training.loss(*batch(step, rank))
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.scheduler.step(mean_over_ranks(loss) if agree else loss)
        training.note(loss)
        path.append((training.rates[-1], training.weights))
    return path, training.losses


def both_ways(rank):
    return data_parallel(rank, agree=True), data_parallel(rank, agree=False)


def test_data_parallel_ranks_stay_bit_identical_with_the_mean_and_drift_without_it():
    first, second = in_processes(both_ways)
    (agreed, losses), (alone, _) = first
    assert second[0][0] == agreed
    assert second[0][1] != losses
    assert len({rate for rate, _ in agreed}) > 3
    assert second[1][0] != alone
    assert second[1][0][-1][1] != alone[-1][1]


def sharded(rank, folder):
    """Save half-way and go on; begin anew, load, and go on from there."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def training():
        new = Training()
        for module in (new.model[0], new.model[2], new.model):
            fully_shard(module, mesh=init_device_mesh("cpu", (2,)))
        new.optimizer = ADAMW(new.model.parameters())
        new.scheduler = PolicyLR(new.optimizer, EAGER)
        return new

    def go_on(training, start, stop):
        for step in range(start, stop):
            loss = training.loss(*batch(step, rank))
            training.optimizer.zero_grad()
            loss.backward()
            training.optimizer.step()
            training.scheduler.step(mean_over_ranks(loss))
            training.note(loss)

    def parts(training):
        model, optimizer = get_state_dict(training.model, training.optimizer)
        return {"model": model, "optimizer": optimizer, "scheduler": training.scheduler}

    whole, resumed = training(), training()
    go_on(whole, 0, 10)
    checkpoint.save(parts(whole), checkpoint_id=folder)
    go_on(whole, 10, 20)

    loaded = parts(resumed)
    checkpoint.load(loaded, checkpoint_id=folder)
    states = {"model_state_dict": loaded["model"], "optim_state_dict": loaded["optimizer"]}
    set_state_dict(resumed.model, resumed.optimizer, **states)
    go_on(resumed, 10, 20)
    return [
        (each.rates[-10:], each.losses[-10:], [parameter.full_tensor().tolist() for parameter in each.model.parameters()])
        for each in (whole, resumed)
    ]


def test_a_sharded_training_resumes_from_a_distributed_checkpoint_bit_for_bit(tmp_path):
    (whole, resumed), (whole_there, resumed_there) = in_processes(sharded, str(tmp_path / "checkpoint"))
    assert resumed == whole
    assert resumed_there == whole_there
    assert whole_there[0] == whole[0]
    assert whole_there[1] != whole[1]


def with_tensor(params):
    return torch.optim.SGD(params, lr=torch.tensor(0.02))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("on_device", [False, True])
def test_a_distributed_checkpoint_needs_neither_processes_nor_a_scheduler_that_has_begun(window, on_device, tmp_path):
    from torch.distributed import checkpoint

    policy = Greedy(factor=0.7, patience=1, window=window)
    first, second = (Training(with_tensor, policy, on_device=on_device) for _ in range(2))
    first.steps(9).scheduler.observe(torch.tensor(3.0))
    checkpoint.save({"scheduler": first.scheduler}, checkpoint_id=tmp_path, no_dist=True)
    checkpoint.load({"scheduler": second.scheduler}, checkpoint_id=tmp_path, no_dist=True)
    assert second.scheduler.state_dict() == first.scheduler.state_dict()
    assert second.optimizer.param_groups[0]["lr"] == first.optimizer.param_groups[0]["lr"]


def test_a_run_on_a_device_is_resumed_there_bit_for_bit():
    on_device = functools.partial(Training, with_tensor, on_device=True)
    whole = on_device().steps(20)
    assert isinstance(whole.scheduler.state.window, torch.Tensor)
    for cut in range(20):
        resumed = on_device().load(on_device().steps(cut).checkpoint()).steps(cut, 20)
        assert resumed.rates == whole.rates[cut:]
        assert resumed.weights == whole.weights


def test_a_window_of_another_length_is_refused_from_a_device_too():
    snapshot = Training(with_tensor, on_device=True).steps(3).scheduler.state_dict()
    with pytest.raises(ValueError, match="the lengths of its windows differ"):
        Training(with_tensor, Greedy(window=5), on_device=True).scheduler.load_state_dict(snapshot)


@pytest.mark.parametrize(
    "order", [("model", "optimizer", "scheduler"), ("scheduler", "optimizer", "model")], ids=["scheduler last", "first"]
)
@pytest.mark.parametrize("kind", [MOMENTUM, ADAMW, with_tensor], ids=["momentum", "AdamW", "a tensor as rate"])
def test_a_training_resumed_at_any_step_equals_one_that_never_stopped(kind, order):
    whole = Training(kind).steps(20)
    for cut in range(20):
        resumed = Training(kind).load(Training(kind).steps(cut).checkpoint(), order).steps(cut, 20)
        assert resumed.rates == whole.rates[cut:]
        assert resumed.losses == whole.losses[cut:]
        assert resumed.weights == whole.weights


class Warmed(Training):
    """A ramp of PyTorch's for five steps, and then the policy."""

    def __init__(self, kind=ADAMW, policy=EAGER, *, on_device=None):
        super().__init__(kind, policy, on_device=on_device)
        self.policy_lr = self.scheduler
        ramp = LinearLR(self.optimizer, 0.2, 1.0, total_iters=5)
        self.scheduler = SequentialLR(self.optimizer, [ramp, self.policy_lr], milestones=[5])

    def step(self, step):
        loss = self.loss(*batch(step))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.policy_lr.observe(loss)
        self.scheduler.step()
        self.note(loss)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_after_a_ramp_of_pytorch_the_policy_sees_only_its_own_losses():
    training = Warmed().steps(6)
    assert training.policy_lr.state.window == (0.0, 0.0, training.losses[5])
    training.steps(6, 30)
    assert training.rates[:5] == pytest.approx([0.0072, 0.0104, 0.0136, 0.0168, 0.02])
    assert training.rates[4:] == [0.02 * state.scale for state in schedule(EAGER, training.losses[5:])]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize(
    "order", [("model", "optimizer", "scheduler"), ("scheduler", "optimizer", "model")], ids=["scheduler last", "first"]
)
@pytest.mark.parametrize(("kind", "on_device"), [(ADAMW, None), (with_tensor, True)], ids=["AdamW", "on the device"])
def test_a_ramp_and_its_policy_resume_at_any_step(order, kind, on_device):
    training = functools.partial(Warmed, kind, on_device=on_device)
    whole = training().steps(12)
    for cut in range(12):
        resumed = training().load(training().steps(cut).checkpoint(), order).steps(cut, 12)
        assert resumed.rates == whole.rates[cut:]
        assert resumed.weights == whole.weights


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))])  # noqa: S301 - our own
@pytest.mark.parametrize("kind", [MOMENTUM, ADAMW], ids=["momentum", "AdamW"])
def test_a_copy_of_a_whole_training_goes_on_alike_and_by_itself(kind, copied):
    first = Training(kind).steps(7)
    second = copied(first)
    before = first.weights
    second.steps(7, 20)
    assert first.weights == before
    assert first.steps(7, 20).weights == second.weights
    assert first.rates == second.rates


class WithExtraKeys(torch.optim.SGD):
    """Groups with keys of all sorts, as those of optimizers in eight bits have."""

    def __init__(self, params):
        extra = {"optim_bits": 8, "is_paged": False, "args": None, "betas": (0.9, 0.99), "mask": torch.ones(2)}
        super().__init__([{"params": list(params), **extra}], lr=0.02)


OTHERS = {
    "schedule-free": functools.partial(schedulefree.AdamWScheduleFree, lr=0.02, warmup_steps=5),
    "Prodigy": functools.partial(prodigyopt.Prodigy, lr=1.0),
    "extra keys": WithExtraKeys,
}


def described(training):
    """All that the groups hold besides parameters and the base rate."""
    return [repr({**group, "params": None, "initial_lr": None}) for group in training.optimizer.param_groups]


@pytest.mark.parametrize("name", OTHERS)
def test_the_scheduler_does_nothing_but_set_the_rate_of_other_libraries_optimizers(name):
    driven, by_hand = Training(OTHERS[name]), Training(OTHERS[name], Cosine(steps=1000))
    keys = set(by_hand.optimizer.param_groups[0])
    for training in (driven, by_hand):
        getattr(training.optimizer, "train", int)()
    for step in range(100):
        driven.step(step)
        by_hand.step(step)
        by_hand.optimizer.param_groups[0]["lr"] = driven.rates[-1]
        assert described(driven) == described(by_hand)
    assert driven.weights == by_hand.weights
    assert keys <= set(driven.optimizer.param_groups[0])
    assert len(set(driven.rates)) > 5
    assert sum(driven.losses[-20:]) < 0.5 * sum(driven.losses[:20])


def test_greedy_lr_trains_with_what_it_comes_with():
    model = network()
    optimizer = ADAMW(model.parameters())
    scheduler = GreedyLR(optimizer)
    losses = []
    for step in range(200):
        inputs, targets = batch(step)
        loss = (model(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        losses.append(loss.item())
    assert scheduler.get_last_lr()[0] > 0.02
    assert sum(losses[-20:]) < 0.2 * sum(losses[:20])
