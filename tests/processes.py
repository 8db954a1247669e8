"""Several processes of one training, on this machine's CPU."""

import os
import traceback
from datetime import timedelta

import torch
from torch import distributed
from torch.multiprocessing import get_context

SECONDS = 60


def in_processes(function, *arguments, count=2):
    """What `function(rank, *arguments)` returns on every rank of a gloo group, in the order of the ranks."""
    context = get_context("spawn")
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # On any port that is free.
    ends, children = [], []
    try:
        for rank in range(count):
            end, other = context.Pipe(duplex=False)
            group = {"port": store.port, "rank": rank, "count": count}
            children.append(context.Process(target=_run, args=(other, group, function, arguments), daemon=True))
            children[-1].start()
            other.close()
            ends.append(end)
        return [_answer(rank, end) for rank, end in enumerate(ends)]
    finally:
        for child in children:
            child.join(5)
            child.kill()
            child.join()


def _answer(rank, end):
    if not end.poll(SECONDS):
        raise TimeoutError(f"rank {rank} gave no answer in {SECONDS} s")
    result, trouble = end.recv()
    assert trouble is None, f"rank {rank} failed:\n{trouble}"
    return result


def _run(end, group, function, arguments):
    torch.set_num_threads(1)
    result = trouble = None
    try:
        store = distributed.TCPStore("127.0.0.1", group["port"], is_master=False, timeout=timedelta(seconds=SECONDS))
        distributed.init_process_group("gloo", store=store, rank=group["rank"], world_size=group["count"])
        result = function(group["rank"], *arguments)
        distributed.barrier()
    except Exception:  # noqa: BLE001 - whatever it is, the parent reports it.
        trouble = traceback.format_exc()
    end.send((result, trouble))
    if trouble is None:
        distributed.destroy_process_group()


def like_torchrun(rank, count=2):
    """Set the variables that frameworks look for, on a rank of `in_processes`; the address is not used any more."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"}
    os.environ.update(where, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
