"""Starts, follows and ends the node process of this machine, for the command line."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from cluster.nodes.reach import answers, speaks
from infra.local.home import StudyProblem
from infra.local.node_home import NodeHome, NodeStatus, Standing
from infra.processes.node_process import start_node

LOOK_S = 0.1
START_S = 60.0
_WORDS = {
    Standing.STARTING: "{text}",
    Standing.JOINED: "{node} has joined {head} with {text}",
    Standing.WAITING: "waiting for {head}: {text}",
    Standing.LEAVING: "{text}",
    Standing.LEFT: "{node} has left {head}",
    Standing.REFUSED: "error: {text}",
}
_OVER = {Standing.LEFT, Standing.REFUSED}


def require_head(head: str) -> None:
    """Raise StudyProblem where no study can be: a first joining does not wait for a head."""
    if not answers(head):
        raise StudyProblem(
            f"nobody answers at {head}: does the study run with --listen, does a firewall let this "
            "machine in, or is it still being prepared (`incumbent status` there)?"
        )
    if not speaks(head):
        raise StudyProblem(
            f"who listens at {head} is no study: say the address that `incumbent run --listen` "
            "prints on the head"
        )


def words_of(status: NodeStatus) -> str:
    """Say how it is with a node."""
    return _WORDS[status.standing].format(text=status.text, node=status.node, head=status.head)


def begin(home: NodeHome, *, node: str, slots: int, is_running: bool) -> int:
    """Start the node process unless it runs; return from where its reports are to be read."""
    home.reports.touch(mode=0o600)
    offset = home.reports.stat().st_size
    if is_running:
        return offset
    process = start_node(home, node=node, slots=slots)
    deadline = time.monotonic() + START_S
    while home.status() is None:
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise StudyProblem(f"the node process does not start: see {home.driver_log}")
        time.sleep(LOOK_S)
    return offset


def follow_node(
    home: NodeHome,
    tell: Callable[[str], None],
    presses: Callable[[], int],
    *,
    offset: int,
    until_joined: bool,
) -> NodeStatus:
    """Tell what the node reports until it ends, or has joined; return how it is then.

    `presses` counts those of Ctrl-C: the first asks the node to leave, the second to do so at once,
    the third leaves it to itself.
    """
    asked = 0
    while True:
        status = home.status()
        offset = _tell_news(home, tell, offset)
        if status is None:
            last = home.last_status()
            if last is None:
                raise StudyProblem(f"the node process is gone: see {home.driver_log}")
            if last.standing not in _OVER:
                raise StudyProblem(f"the node process was killed: join again (see {home.reports})")
            return last
        if until_joined and status.standing is Standing.JOINED:
            return status
        if asked < min(presses(), 2):
            asked += _signal(status)
        if presses() > 2 or (until_joined and asked and status.standing is Standing.WAITING):
            return status
        time.sleep(LOOK_S)


def ask_to_leave(home: NodeHome, tell: Callable[[str], None], *, now: bool) -> None:
    """Have the node leave, and tell what it is at until it has."""
    asked, told = 0, ""
    while (status := home.status()) is not None:
        is_leaving = status.standing is Standing.LEAVING
        # One more would be an order to leave at once. Two together would be one: the second goes
        # out when the first was taken.
        if (asked == 0 and (now or not is_leaving)) or (now and asked == 1 and is_leaving):
            asked += _signal(status)
        if is_leaving and status.text != told:
            told = status.text
            tell(told)
        time.sleep(LOOK_S)


def end_leftovers(home: NodeHome) -> bool:
    """End what a node process that was killed has left; say whether there was any.

    That is its Ray with the workers in it; of a machine that was switched off, Ray's files alone.
    """
    with home.held() as is_ours:
        ray = home.ray()
        if not is_ours or not ray.is_unended:
            return False
        ray.stop()
        return True


def _signal(status: NodeStatus) -> bool:
    """Ask a node process to leave; False where it is not known yet which one that is."""
    if status.pid:
        with suppress(ProcessLookupError):
            os.kill(status.pid, signal.SIGTERM)
    return bool(status.pid)


def _tell_news(home: NodeHome, tell: Callable[[str], None], offset: int) -> int:
    """Tell what was reported after `offset`; return how far that was."""
    offset = min(offset, home.reports.stat().st_size)  # it is cut when it is long
    for kind, text, end in _reports(home, offset):
        offset = end
        status = home.last_status()
        node = status.node if status else ""
        words = _WORDS[Standing(kind)] if kind in set(Standing) else "{text}"
        tell(words.format(text=text, node=node, head=home.head))
    return offset


def _reports(home: NodeHome, offset: int) -> Iterator[tuple[str, str, int]]:
    with home.reports.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return  # it is only being written
            offset += len(line)
            try:
                report = json.loads(line)
                kind, text = str(report["kind"]), str(report["text"])
            except (ValueError, KeyError, TypeError):
                continue  # what is left of a report where the file was cut, or another's words
            yield kind, text, offset
