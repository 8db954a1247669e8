"""The quick comparison on a Ray cluster of two nodes, one of which is killed half-way, against one that nothing happened to.

Both nodes are on this machine, with one processor each by their own account. The one that is not the head is killed at a moment
when one of its workers is at something. The rows of both studies have to be the same in everything but how long they took; the
command exits with 1 if they are not.

    python benchmarks/two_nodes.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import psutil

from surefoot.contest.rows import ContestRow, Rows
from surefoot.contest.study import Study, carry_out, ready, study_of
from surefoot.engine import Began, Local, Lost
from surefoot.engine.cluster import Ray

if TYPE_CHECKING:
    from surefoot.engine import Event


def nodes() -> tuple[Any, Any]:
    """A cluster, and the node in it that will be killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    return cluster, cluster.add_node(num_cpus=1)


def is_on(node: Any, where: str) -> bool:
    """Whether a worker is one of a node's: a child of its raylet."""
    try:
        parents = {parent.pid for parent in psutil.Process(int(where.rpartition(":")[2])).parents()}
    except psutil.NoSuchProcess:
        return False
    return any(process.process.pid in parents for every in node.all_processes.values() for process in every)


def disturbed(study: Study, folder: Path) -> tuple[int, int]:
    """Carry a study out on two nodes, kill one of them, and return after how many blocks, and how many were begun again."""
    cluster, victim = nodes()
    finished = killed_after = lost = 0

    def watch(event: Event) -> None:
        nonlocal finished, killed_after, lost
        lost += isinstance(event, Lost)
        if isinstance(event, Began) and not killed_after and finished >= HALF and is_on(victim, event.where):
            cluster.remove_node(victim, allow_graceful=False)
            killed_after = finished

    def count(*_: Any) -> None:
        nonlocal finished
        finished += 1

    try:
        with Ray(cluster.address) as engine:
            carry_out(folder, study, engine=engine, tell=count, on_event=watch)
    finally:
        cluster.shutdown()
    return killed_after, lost


def rows(folder: Path, study: Study) -> dict[Any, list[ContestRow]]:
    """All that was found, but how long it took."""
    return {
        cell: sorted(row._replace(seconds=0.0) for row in found.values())
        for cell, found in Rows.read(folder, study.definitions).items()
    }


HALF = 15
"""Blocks, of some 35, after which the node is killed."""


def main() -> None:
    """Print what happened, and whether it made a difference."""
    study, _ = ready(study_of(quick=True))
    with TemporaryDirectory() as there:
        began = perf_counter()
        with Local(workers=2) as engine:
            carry_out(Path(there) / "local", study, engine=engine)
        undisturbed = perf_counter() - began
        began = perf_counter()
        killed_after, lost = disturbed(study, Path(there) / "ray")
        seconds = perf_counter() - began
        expected, found = (rows(Path(there) / name, study) for name in ("local", "ray"))
    same = repr(expected) == repr(found)  # As text: a NaN is not the same as itself.
    print(f"undisturbed, processes of this machine: {sum(map(len, expected.values()))} rows in {undisturbed:.0f} s")
    print(f"two nodes, one killed after {killed_after} blocks: {sum(map(len, found.values()))} rows in {seconds:.0f} s")
    print(f"begun again: {lost} blocks; rows are {'the same to the last bit' if same else 'NOT the same'}")
    sys.exit(not (same and killed_after))


if __name__ == "__main__":
    main()
