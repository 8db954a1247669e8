"""The mean of a loss over ranks."""

import pytest
import torch
from torch import distributed

from processes import in_processes
from surefoot.torch import mean_over_ranks


def means(rank):
    """All sorts of means: of numbers, of halves, of a matrix, of whole numbers, and in a group of one's own."""
    alone = [distributed.new_group([other]) for other in range(2)][rank]
    matrix = torch.arange(4.0).reshape(2, 2).T + rank
    losses = [torch.tensor(1.0 + rank), torch.tensor(1.0 + rank, dtype=torch.bfloat16), matrix, torch.tensor(1 + rank)]
    found = [mean_over_ranks(loss) for loss in losses] + [mean_over_ranks(losses[0], alone)]
    return [(mean.dtype, mean.tolist()) for mean in found], [loss.tolist() for loss in losses]


def test_the_mean_is_in_single_precision_or_wider_and_the_losses_stay():
    (found, losses), (found_there, losses_there) = in_processes(means)
    single = torch.float32
    expected = [(single, 1.5), (single, 1.5), (single, [[0.5, 2.5], [1.5, 3.5]]), (single, 1.5)]
    assert found == [*expected, (single, 1.0)]
    assert found_there == [*expected, (single, 2.0)]
    assert losses == [1.0, 1.0, [[0.0, 2.0], [1.0, 3.0]], 1]
    assert losses_there == [2.0, 2.0, [[1.0, 3.0], [2.0, 4.0]], 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_mean_of_a_single_process_is_a_copy_of_its_loss(dtype):
    loss = torch.tensor(0.75, dtype=dtype, requires_grad=True)
    mean = mean_over_ranks(loss)
    assert mean.item() == 0.75
    assert not mean.requires_grad
    mean.zero_()
    assert loss.item() == 0.75


def test_a_number_without_a_device_is_refused():
    with pytest.raises(TypeError, match=r"loss must be a tensor, got 0.5 \(torch.tensor\(loss, device=...\)"):
        mean_over_ranks(0.5)


def fail(rank):
    if rank:
        raise ValueError("this rank has had enough")
    distributed.barrier()


def test_the_trouble_of_one_rank_ends_all_of_them():
    with pytest.raises((AssertionError, EOFError), match="rank . failed"):
        in_processes(fail)
    from multiprocessing import active_children

    assert active_children() == []
