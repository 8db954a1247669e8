"""Losses, state and rates that stay on one device; without an accelerator, a CPU that nobody may wait for stands in for it."""

import io
import math

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from surefoot import Cosine, Every, Greedy, Plateau, Then, Warmup, schedule
from surefoot.torch import GreedyLR, PolicyLR

LOSSES = [3.0, 2.0, math.nan, 4.0, 1.0, 0.5, 0.75, 0.75, 0.25, 0.125, 0.5, 0.5]
POLICIES = [
    Greedy(factor=0.5, patience=0, window=1),
    Greedy(factor=0.5, patience=0, window=3, raise_stage=1, reset_after=2),
    Greedy(factor=0.5, patience=1, window=8, evidence=1.0),
    Plateau(factor=0.5, patience=1, cooldown=1),
    Every(Greedy(factor=0.5, patience=0, window=1), steps=2),
    Warmup(Greedy(factor=0.5, patience=0, window=1), steps=4),
    Then(Greedy(factor=0.5, patience=0, window=2), Cosine(steps=5), after=5, carry=True),
]
IDS = [type(policy).__name__ + str(number) for number, policy in enumerate(POLICIES)]


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    yield
    torch._dynamo.reset()


class Log(TorchDispatchMode):
    """Every operation that is launched."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


def an_optimizer(device="cpu", groups=2):
    parameters = [{"params": [torch.nn.Parameter(torch.ones(2, device=device))]} for _ in range(groups)]
    return torch.optim.SGD(parameters, lr=torch.tensor(0.5, device=device))


def follow(scheduler, losses, device="cpu"):
    for loss in losses:
        scheduler.step(torch.tensor(loss, device=device))
    return [group["lr"].item() for group in scheduler.optimizer.param_groups]


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_a_run_on_the_device_equals_the_fold(policy):
    scheduler = PolicyLR(an_optimizer(), policy, on_device=True)
    for number, loss in enumerate(LOSSES):
        *_, last = schedule(policy, LOSSES[: number + 1])
        assert follow(scheduler, [loss]) == pytest.approx([0.5 * last.scale] * 2)


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_no_step_reads_anything_back(policy):
    scheduler = PolicyLR(an_optimizer(), policy, on_device=True)
    losses = [torch.tensor(loss) for loss in LOSSES]
    with Log() as log:
        for loss in losses:
            scheduler.observe(loss)
            scheduler.step()
    assert log.names
    assert not {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"} & set(log.names)


def test_the_log_would_have_seen_a_loss_being_read():
    scheduler = GreedyLR(an_optimizer())
    loss = torch.tensor(3.0)
    with Log() as log:
        scheduler.step(loss)
    assert "aten::_local_scalar_dense" in log.names


def test_state_and_rates_are_the_same_tensors_for_ever():
    scheduler = PolicyLR(an_optimizer(), POLICIES[1], on_device=True)
    before = [*scheduler.state, *(group["lr"] for group in scheduler.optimizer.param_groups)]
    follow(scheduler, LOSSES)
    after = [*scheduler.state, *(group["lr"] for group in scheduler.optimizer.param_groups)]
    assert all(one is other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_a_step_compiles_into_one_graph(policy):
    scheduler, reference = (PolicyLR(an_optimizer(), policy, on_device=True) for _ in range(2))
    counter = CompileCounter()
    step = torch.compile(scheduler.step, backend=counter, fullgraph=True)
    for number, loss in enumerate(LOSSES):
        step(torch.tensor(loss))
        assert follow(reference, [loss]) == [group["lr"].item() for group in scheduler.optimizer.param_groups]
        if number == 2:
            compiled = counter.frame_count
    assert counter.frame_count == compiled <= 3  # Counts of steps, plain numbers, are made symbols once.


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # PyTorch's own.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # The optimizer's.
def test_the_step_compiles_together_with_the_optimizer():
    def trained(wrap):
        torch.manual_seed(0)
        model, x = torch.nn.Linear(4, 1), torch.randn(16, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.01), momentum=0.9)
        scheduler = PolicyLR(optimizer, Greedy(factor=0.8, patience=1, window=4), on_device=True)

        def finish(loss):
            optimizer.step()
            scheduler.step(loss)

        finish, losses = wrap(finish), []
        for _ in range(20):
            loss = (model(x) - x.sum(dim=1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            finish(loss.detach())
            losses.append(loss.item())
        return [*losses, optimizer.param_groups[0]["lr"].item()]

    plain = trained(lambda finish: finish)
    compiled = trained(lambda finish: torch.compile(finish, backend="eager"))
    assert compiled == pytest.approx(plain, rel=1e-4)  # Compiled, the optimizer rounds in another order.
    assert plain[-1] != pytest.approx(0.01)


def test_a_checkpoint_on_the_device_goes_on_on_the_device():
    first, second = (PolicyLR(an_optimizer(), POLICIES[1], on_device=True) for _ in range(2))
    follow(first, LOSSES[:6])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert follow(second, LOSSES[6:]) == follow(first, LOSSES[6:])


def test_a_checkpoint_from_the_host_goes_on_on_the_device():
    host, device = PolicyLR(an_optimizer(), POLICIES[0]), PolicyLR(an_optimizer(), POLICIES[0], on_device=True)
    follow(host, LOSSES[:6])
    device.load_state_dict(host.state_dict())
    assert follow(device, LOSSES[6:]) == follow(host, LOSSES[6:])


def test_a_snapshot_on_the_device_does_not_change_with_the_scheduler():
    scheduler = PolicyLR(an_optimizer(), POLICIES[0], on_device=True)
    snapshot = scheduler.state_dict()
    follow(scheduler, LOSSES)
    assert snapshot["state"]["scale"] == 1.0


def test_a_plain_number_may_follow_losses_on_the_device():
    scheduler = PolicyLR(an_optimizer(), POLICIES[0], on_device=True)
    follow(scheduler, [3.0])
    scheduler.step(2.0)
    assert scheduler.optimizer.param_groups[0]["lr"].item() == 2.0


def test_a_group_added_on_the_device_follows():
    scheduler = PolicyLR(an_optimizer(), POLICIES[0], on_device=True)
    follow(scheduler, [3.0])
    scheduler.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": torch.tensor(0.125)})
    assert follow(scheduler, [2.0]) == [2.0, 2.0, 0.5]


def test_rates_that_are_no_tensors_cannot_stay_on_the_device():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5)
    with pytest.raises(ValueError, match="on_device needs the rate of every group to be a tensor, all on one device"):
        GreedyLR(optimizer, on_device=True)


def test_on_a_cpu_the_loss_is_read_unless_asked_otherwise():
    scheduler = GreedyLR(an_optimizer())
    follow(scheduler, LOSSES)
    assert type(scheduler.state.scale) is float


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_a_cuda_loss_never_visits_the_host(policy):
    scheduler = PolicyLR(an_optimizer("cuda"), policy)
    losses = torch.tensor(LOSSES, device="cuda")
    scheduler.step(losses[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for loss in losses[1:]:
            scheduler.step(loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    *_, last = schedule(policy, LOSSES)
    np.testing.assert_allclose(follow(scheduler, []), 0.5 * last.scale, rtol=1e-6)


@needs_cuda
def test_a_step_is_captured_in_a_cuda_graph():
    scheduler = PolicyLR(an_optimizer("cuda"), POLICIES[0], on_device=True)
    loss = torch.zeros((), device="cuda")
    start = scheduler.state_dict()
    scheduler.step(loss)
    scheduler.load_state_dict(start)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scheduler.step(loss)
    for value in LOSSES:
        loss.fill_(value)
        graph.replay()
    *_, last = schedule(POLICIES[0], LOSSES)
    np.testing.assert_allclose(follow(scheduler, []), 0.5 * last.scale, rtol=1e-6)
