"""How work is told of: the table, the lines, the log, and nothing more than is wanted."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from surefoot import telling, terminal
from surefoot.engine import Began, Failed, Finished, Lost, WorkError
from surefoot.event_log import EventLog
from surefoot.running import Running
from surefoot.standing import SHOWN, Part, Standing
from surefoot.telling import Telling, leaving

needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.fixture
def said(monkeypatch):
    """Sentences that are said."""
    lines = []
    for module in ("telling", "event_log", "terminal"):
        monkeypatch.setattr(f"surefoot.{module}.say", lines.append)
    return lines


def told(running=None, **more):
    """Of items such as "a1", which belong to the part "a"."""
    return Telling(running or Running(), "letter", name=str, part=lambda item: item[0], **more)


def shown(standing, width=80):
    console = Console(width=width, no_color=True, record=True, file=StringIO())
    console.print(standing.table())
    return console.export_text()


def columns(text, first):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


def test_lines_count_what_is_kept_among_all_there_is(said):
    with told(of={"a": 2, "b": 2}, there={"a": 1}) as telling:
        telling.tell(Began("b1", "here:1"))
        telling.tell(Finished("b1", None, 0.1))
        telling.kept("b", "b1: finished")
    assert said == ["2/4 b1: finished"]


def test_what_fails_or_is_lost_is_said_at_once_by_name(said):
    with told() as telling:
        telling.tell(Lost("a1", "killed by signal 9"))
        telling.tell(Failed("a1", "it took too long"))
    assert said == ["a1: begun again, its worker was lost (killed by signal 9)", "surefoot: a1: it took too long"]


def test_who_wants_it_quiet_hears_of_failures_alone(said):
    with told(Running(quiet=True)) as telling:
        telling.tell(Lost("a1", "killed by signal 9"))
        telling.kept("a", "a2: finished")
        telling.tell(Failed("a1", "it took too long"))
    assert said == ["surefoot: a1: it took too long"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_says_how_much_is_done_how_fast_and_how_long_it_takes(width):
    seconds = [0.0]
    standing = Standing("letter", of=100_000, there=10_000, clock=lambda: seconds[0])
    standing.finished, standing.failed, standing.lost, seconds[0] = 30_000, 1, 2, 6000.0
    standing.parts["a"] = Part(of=50, done=20, running=3, best=(0.125, "a very long name " * 9))
    standing.part("a")
    text = shown(standing, width)
    assert columns(text, "40,000") == ["40,000", "of", "100,000", "3", "1", "2", "300", "1:40:00", "3:19:59"]
    assert columns(text, "a")[1:2] == ["20/50"]
    assert "0.1250" in text
    assert max(map(len, text.splitlines())) <= width


def test_the_table_has_the_parts_in_which_something_happened_last():
    standing = Standing("part")
    for number in (*range(40), 3):
        standing.part(f"p{number}").done += 1
    text = shown(standing)
    assert columns(text, "p3") == ["p3", "2"]
    assert sum(line.split()[:1] != [] and line.split()[0].startswith("p") for line in text.splitlines()) == SHOWN + 1
    assert f"and {40 - SHOWN} more" in text


def test_time_left_goes_by_what_was_finished_since_this_began():
    seconds = [0.0]
    standing = Standing("part", of=100, there=80, clock=lambda: seconds[0])
    seconds[0] = 30.0
    assert standing.left is None
    standing.finished, standing.failed = 5, 5
    assert standing.left == 60.0


def test_a_log_has_a_line_for_each_event_and_is_appended_to(tmp_path):
    path = tmp_path / "log.jsonl"
    for _ in range(2):
        with told(Running(log=path, quiet=True)) as telling:
            telling.tell(Began("a1", "here:1"))
            telling.tell(Failed("a1", "it broke", "Traceback\nof two lines"))
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["opened", "began", "failed", "closed"] * 2
    failed = lines[2]
    assert failed.pop("time").endswith("Z")
    assert failed == {
        "event": "failed",
        "what": "a1",
        "where": "here:1",
        "why": "it broke",
        "details": "Traceback\nof two lines",
    }


@needs_full_disk
def test_a_log_on_a_full_disk_is_complained_about_once_and_stops_nothing(said):
    with EventLog(Path("/dev/full"), str) as log:
        for number in range(5):
            log.tell(Finished(number, None, 0.1))
    assert said == ["surefoot: the log /dev/full lacks lines from here on: No space left on device. The work goes on."]


def test_work_of_which_something_failed_ends_with_1_and_says_what_is_kept(said):
    failure = Failed("a1", "it broke")
    with pytest.raises(terminal.typer.Exit) as left, leaving(Running(), lambda: "3 runs are kept"):
        raise WorkError("it broke", [failure])
    assert left.value.exit_code == 1
    assert said == ["surefoot: it broke. 3 runs are kept; the same command tries the rest again (--log FILE keeps tracebacks)."]


STOPPED = """
import os, signal, sys
import typer
from surefoot.running import Running
from surefoot.telling import leaving

def press():
    os.kill(os.getpid(), signal.SIGINT)
    return "All of it is kept"

try:
    with leaving(Running(), press):
        press()
except typer.Exit as error:
    press()
    sys.exit(error.exit_code)
"""


def test_ctrl_c_pressed_again_on_the_way_out_changes_nothing():
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "Stopped. All of it is kept; the same command goes on from there.\n"


def test_telling_of_many_items_costs_little_however_fast_they_come(monkeypatch):
    monkeypatch.setattr(telling, "err", Console(file=StringIO(), force_terminal=True, width=100))
    began = time.process_time()
    with told(of={"a": 20_000}) as teller:
        for number in range(20_000):
            item = f"a{number}"
            teller.tell(Began(item, "here:1"))
            teller.tell(Finished(item, None, 0.1))
            teller.kept("a", "a line that nobody sees")
    assert time.process_time() - began < 4.0  # 0.2 ms for each, a few times what it takes.
    assert teller.standing.done == 20_000


def in_terminal(words, cwd, columns=100):
    """The command in a terminal: its exit code, what it drew there, and what it wrote to a pipe."""
    here, there = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "surefoot", *words]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=there, env=environment) as process:
        os.close(there)
        drawn = b""
        while process.poll() is None or select.select([here], [], [], 0.0)[0]:
            if select.select([here], [], [], 0.1)[0]:
                try:
                    drawn += os.read(here, 65536)
                except OSError:  # The other end is closed.
                    break
        os.close(here)
        return process.wait(), drawn.decode(), process.stdout.read().decode()


def test_in_a_terminal_a_table_lives_on_standard_error_and_json_stays_alone(tmp_path):
    words = ["compare", "--problem", "wine-mlp", "--policy", "constant", "--seeds", "2", "--steps", "10", "--json"]
    code, drawn, printed = in_terminal(words, tmp_path)
    assert code == 0
    assert json.loads(printed)["version"]
    for word in ("finished", "time left", "problem, optimizer", "2 of 2", "2/2", "constant, seed"):
        assert word in drawn
    assert "\x1b[?25l" in drawn  # The cursor is hidden while the table lives,
    assert "\x1b[?25h" in drawn  # and shown again.
