"""Several processes that do one piece of work together, as `torchrun` would start them."""

from __future__ import annotations

import os
import traceback
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import checks
from surefoot.engine.processes import ending
from surefoot.engine.protocol import TRAINING, WorkerDiedError, WorkError
from surefoot.engine.settling import context, settle
from surefoot.engine.worker import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

HERE = "127.0.0.1"
GRACE = 0.5
"""Seconds in which it shows whether a rank raised an exception because another one had died."""
PATIENCE = 10.0
"""Seconds that a rank may take to leave its group before it is killed: by then, all of them have answered."""


def on_ranks(
    function: Callable[..., Any],
    *arguments: Any,
    count: int,
    backend: str | None = None,
    same: Callable[[Any], Any] | None = None,
    threads: int = 1,
    preload: Sequence[str] = TRAINING,
) -> Any:
    """What `function(*arguments)` returns on rank 0 of a process group of this machine.

    Every rank is a process of its own that finds what `torchrun` would have told it in its environment, `RANK` and
    `WORLD_SIZE` among the rest, and a process group that is ready. Wherever one of them fails, all of them end at once, and
    they end with the process that called this, however it ends. It can be called in a worker of an engine.

    >>> from operator import add
    >>> on_ranks(add, 1, 2, count=2)
    3

    Args:
        function: What every rank calls; a function of a module, or a `functools.partial` of one. It calls collectives in the
            same order on all ranks.
        *arguments: What it is called with on all of them; they travel by pickle, and so does what rank 0 returns.
        count: How many ranks, 1 or more.
        backend: The process group's, such as `"gloo"`. If None, NCCL for what is on GPUs where each rank has one of its own,
            and gloo for all else.
        same: What has to be the same on all ranks, found from what the function returned there; nothing if None.
        threads: How many a rank computes with, 1 or more.
        preload: Modules that are imported once, not once per rank.

    Raises:
        TypeError: A number is not one.
        ValueError: A number is outside its range.
        WorkError: The function raised an exception on a rank, or what has to be the same is not.
        WorkerDiedError: A rank died.
    """
    checks.whole("count", count, low=1)
    checks.whole("threads", threads, low=1)
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # A port that the system picks for a server which keeps it: one that is picked and then given away might be taken.
    server = TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
    work = _Work(partial(function, *arguments), count, server.port, backend, same, threads, tuple(preload))
    ranks: list[_Rank] = []
    try:
        for number in range(count):
            ranks.append(_Rank(work, number))  # noqa: PERF401 - those that were started end if one cannot be.
        answers = _answers(ranks)
        _compare(ranks, answers)
        _dismiss(ranks)
    finally:
        for rank in ranks:
            rank.close()
    return answers[0].result


class _Work(NamedTuple):
    """What every rank has to know."""

    function: Callable[[], Any]
    size: int
    port: int
    backend: str | None
    same: Callable[[Any], Any] | None
    threads: int
    preload: tuple[str, ...]


class _Rank:
    """One of them, as the process that started it sees it."""

    def __init__(self, work: _Work, number: int) -> None:
        self.name = f"rank {number} of {work.size}"
        made = context(work.preload)
        self.line, end = made.Pipe()
        self.process = made.Process(target=_be, args=(work, number, end), daemon=False)
        try:
            self.process.start()
        except (OSError, EOFError) as error:
            raise WorkerDiedError(f"{self.name} could not be started: {error}") from error
        finally:
            end.close()

    def death(self) -> WorkerDiedError:
        """How it ended, now that nobody is on its line."""
        self.process.join()
        code = self.process.exitcode
        return WorkerDiedError(f"{self.name} was {ending(code)}" if code < 0 else f"{self.name} ended with {ending(code)}")

    def close(self) -> None:
        """Leave nothing of it behind."""
        self.line.close()
        self.process.kill()
        self.process.join()


class _Answer(NamedTuple):
    """What a rank came to: what rank 0 returned, and what has to be the same on all; or what went wrong."""

    result: Any = None
    same: Any = None
    trouble: str = ""
    details: str = ""


def _answers(ranks: Sequence[_Rank]) -> list[_Answer]:
    """What all of them came to.

    A rank that dies makes the others raise exceptions, since they wait for it: its death is what is told.
    """
    answers: dict[_Rank, _Answer] = {}
    failure: WorkError | None = None
    while waiting := {rank.line: rank for rank in ranks if rank not in answers}:
        heard = wait(list(waiting), None if failure is None else GRACE)
        for line in heard:
            rank = waiting[line]
            try:
                answers[rank] = answer = rank.line.recv()
            except (EOFError, OSError):
                raise rank.death() from None
            if answer.trouble and failure is None:
                failure = WorkError(f"{rank.name}: {answer.trouble}")
                failure.add_note(answer.details)
        if failure is not None and not heard:
            break
    if failure is not None:
        raise failure
    return [answers[rank] for rank in ranks]


def _compare(ranks: Sequence[_Rank], answers: Sequence[_Answer]) -> None:
    for rank, answer in zip(ranks, answers, strict=True):
        if answer.same != answers[0].same:
            raise WorkError(
                f"{rank.name} came to something else than rank 0, where all have to come to the same: they decided from "
                "numbers of their own (take `surefoot.ranks.mean_over_ranks` of what is decided from)"
            )


def _dismiss(ranks: Sequence[_Rank]) -> None:
    """Let all of them leave the group, now that none needs another any more."""
    for rank in ranks:
        with suppress(OSError):
            rank.line.send("over")
    for rank in ranks:
        rank.process.join(PATIENCE)


def _be(work: _Work, number: int, line: Connection) -> None:
    """Be a rank: answer, and stay until all have answered, so that nobody is left alone in a collective."""
    settle(work.preload, threads=work.threads)
    os.environ.update(_as_torchrun(work, number))
    from torch import distributed

    try:
        _join(work, number)
        result = work.function()
        line.send(_Answer(None if number else result, work.same and work.same(result)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told where it can be read
        line.send(_Answer(trouble=sentence(error), details=traceback.format_exc()))
    with suppress(EOFError, OSError):
        line.recv()
        distributed.destroy_process_group()


def _join(work: _Work, number: int) -> None:
    """Enter the group, with a GPU of one's own if there are enough."""
    import torch
    from torch import distributed

    has_own = distributed.is_nccl_available() and torch.cuda.device_count() >= work.size
    if has_own:
        torch.cuda.set_device(number)
    # Not `env://`: the addresses that a group leaves in the store would be in the way of another that is made from there.
    store = distributed.PrefixStore("surefoot", distributed.TCPStore(HERE, work.port, is_master=False))  # type: ignore[attr-defined]
    backend = work.backend or ("cpu:gloo,cuda:nccl" if has_own else "gloo")
    distributed.init_process_group(backend, store=store, rank=number, world_size=work.size)


def _as_torchrun(work: _Work, number: int) -> dict[str, str]:
    """The variables of a single node. The server of the store is in the process that started the ranks, as with `torchrun`."""
    count = str(work.size)
    return {
        **dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), str(number)),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), count),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        "MASTER_ADDR": HERE,
        "MASTER_PORT": str(work.port),
        "OMP_NUM_THREADS": str(work.threads),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "surefoot",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
    }
