"""Terminals come and go: a study lives on, is attached to, watched, interrupted and stopped."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from infra.local.controller_process import find_controller
from infra.local.controller_start import PROGRAM
from tests.end_to_end.conftest import BY_HAND, CONFIG, SIGNALS, MakeStudy, Study
from tests.end_to_end.conftest import PROGRAM as INCUMBENT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GATED = """#!/bin/sh
GATE=0
until [ $GATE = 0 ] || [ -e "$HOME/signals/open-$GATE" ]; do sleep 0.1; done
echo "METRIC loss=$GATE"
"""
ONE_SLOT = BY_HAND + CONFIG.replace("slots = 2", "slots = 1").replace("= 30", "= 400")
ONE_SLOT = ONE_SLOT.replace("gpus = 0", SIGNALS)


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    """A study that runs what is submitted; each trial goes on until its gate is opened."""
    return make_study({"bench.sh": GATED}, config=ONE_SLOT)


def test_terminals_come_and_go_and_the_last_one_stops_the_study(study: Study) -> None:
    study.incumbent("submit", "--set", "GATE=1")
    done = study.incumbent("run", "--detach")
    assert "`incumbent watch` follows it" in done.stderr
    assert done.stdout == ""
    refuse_a_second_controller(study)

    close_the_terminal(study)
    study.wait_for_status("e1", "running")
    workers = find_workers(study)
    assert workers
    kill_the_controller(study)
    watch_until_judged(study)
    assert find_workers(study) == workers
    assert [trial.attempt for trial in study.state().experiments["e1"].trials] == [1]

    study.incumbent("submit", "--grid", "GATE=2,3")
    attached = study.start("run")
    study.wait_for_status("e2", "running")
    study.wait("it to attach", lambda: "attached to the controller" in attached.output)
    attached.interrupt()
    study.wait("Ctrl-C to be heard", lambda: study.state().stopping == "finish")
    open_gate(study, 2)
    assert attached.wait() == 0
    assert "stopping when what runs has finished; Ctrl-C again" in attached.output
    assert f"stopped; `incumbent run` in {study.repository} carries on" in attached.output
    assert study.state().experiments["e2"].status == "discarded"  # it was finished, and judged
    assert study.state().experiments["e3"].seconds == 0.0
    assert not study.processes()

    give_back_at_the_second_interrupt(study)
    assert study.incumbent("stop").stdout == "nothing was running\n"
    assert not study.processes()


def open_gate(study: Study, gate: int) -> None:
    Path(study.environment["HOME"], "signals", f"open-{gate}").touch()


def refuse_a_second_controller(study: Study) -> None:
    first = find_controller(study.home)
    assert first is not None
    second = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(study.home.directory)],
        capture_output=True,
        text=True,
        env=study.environment,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    words = f"the study study has a controller already: process {first.pid} on {first.node}"
    assert words in second.stderr
    still = find_controller(study.home)  # its /metrics may have come up meanwhile
    assert still is not None
    assert (still.pid, still.node) == (first.pid, first.node)


def close_the_terminal(study: Study) -> None:
    """Attach in a terminal of its own and close that: the command goes, and nothing else."""
    first = find_controller(study.home)
    assert first is not None
    assert os.getsid(first.pid) == first.pid
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "wb") as terminal:
        attached = subprocess.Popen(
            [str(INCUMBENT), "run"],
            cwd=study.repository,
            env=study.environment | {"TERM": "xterm"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - it is safe beside other threads
        )
        shown = b""
        while b"attached to the controller" not in shown:
            shown += screen.read(4096)
    assert attached.wait(30) == -signal.SIGHUP
    still = find_controller(study.home)
    assert still is not None
    assert still.pid == first.pid


def _take_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def kill_the_controller(study: Study) -> None:
    """Kill it; the next one finds workers and trial where they are."""
    first = find_controller(study.home)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    study.incumbent("run", "--detach")
    second = find_controller(study.home)
    assert second is not None
    assert second.pid != first.pid


def find_workers(study: Study) -> set[int]:
    return {
        process.pid
        for process, line in study.processes().items()
        if line.startswith("ray::WorkerActor")
    }


def watch_until_judged(study: Study) -> None:
    study.wait_for_status("e1", "running")
    watching = study.start("watch", "--json")

    def is_shown() -> bool:
        study.incumbent("resume")  # changes nothing, and is an event
        return bool(watching.output)

    study.wait("it to follow", is_shown)
    open_gate(study, 1)
    study.wait("the verdict to be shown", lambda: "discarded e1" in watching.output)
    watching.interrupt()
    assert watching.wait() == 0
    events = [json.loads(line) for line in watching.output.splitlines()]
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    judged = next(e for e in reversed(events) if e["event"] == "ExperimentJudged")
    assert judged["data"]["experiment"] == "e1"
    assert judged["text"].startswith("discarded e1")


def give_back_at_the_second_interrupt(study: Study) -> None:
    """The gate stays shut: a stop waits for the trial, and Ctrl-C pressed twice does not."""
    running = study.start("run")
    study.wait_for_status("e3", "running")
    stopping = study.start("stop")
    study.wait("the stop to be heard", lambda: study.state().stopping == "finish")
    assert stopping.output == "finishing what runs (--now gives it back)\n"
    running.interrupt()
    study.wait("Ctrl-C to be heard", lambda: "Ctrl-C again" in running.output)
    began = time.monotonic()
    running.interrupt()
    assert running.wait() == 0
    assert time.monotonic() - began < 30
    assert "giving back what runs" in running.output
    assert stopping.wait() == 0
    assert f"stopped; `incumbent run` in {study.repository} carries on" in stopping.output
    given_back = study.state().experiments["e3"]
    assert given_back.status == "proposed"
    assert given_back.losses == 0


MOMENTS = {
    "study.json": "the study is being made",
    "redis/valkey.pid": "its server comes up",
    "repo.git": "its repository is being made",
    "controller.log": "its controller is started",
    "ray.log": "Ray comes up",
}


def test_an_interrupt_at_any_moment_of_the_start_leaves_nothing_running(
    make_study: MakeStudy,
) -> None:
    for number, (path, moment) in enumerate(MOMENTS.items()):
        study = make_study({"bench.sh": GATED}, name=f"study-{number}", config=ONE_SLOT)
        running = study.start("run")
        study.wait(moment, (study.home.directory / path).exists)
        running.interrupt()
        code = running.wait(30)
        assert code == 130 or (code == 0 and "carries on" in running.output), moment
        assert not study.processes(), moment
        study.incumbent("submit", "--set", "GATE=1")  # what is there already is whole
