"""What `run` and `watch` show: a live picture in a terminal, stable lines elsewhere."""

import io
import json
import os
import pty
import re
import sys

import pytest
from rich.console import Console
from rich.live import Live

from cluster.state import events as ev
from cluster.state.state import StudyState
from infra.display.live_view import JsonLinesView, LiveView, PlainView, make_view
from infra.facts.facts import status_facts
from tests.infra.study_factory import Study, eventful


class Lines(PlainView):
    """A plain view whose lines can be asked for."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(self.stream)

    def resume(self, state: object) -> None:
        """Begin: a view is shown events as an observer is."""

    def all(self) -> list[str]:
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", x) for x in self.stream.getvalue().splitlines()]


def test_a_pipe_gets_one_line_for_each_event_of_interest() -> None:
    study = Study()
    lines = study.watch(Lines())
    study.baseline(0.41)
    study.keep("LR 0.1 -> 0.2", 0.38)
    study.crash("DEPTH 2 -> 0")
    assert [re.sub(r"as \w{7}:", "as COMMIT:", line) for line in lines.all()] == [
        "started e0.1 on cpu-0: baseline",
        "scored e0.1: val_loss 0.41",
        "baseline e0",
        "started e1.1 on cpu-0: LR 0.1 -> 0.2",
        "scored e1.1: val_loss 0.38",
        "winner e1: better (+0.1 against e0)",
        "kept e1: val_loss 0.38, replaces e0, as COMMIT: LR 0.1 -> 0.2",
        "started e2.1 on cpu-0: DEPTH 2 -> 0",
        "crashed e2.1: ZeroDivisionError: division by zero",
    ]


def test_merges_problems_and_endings_are_of_interest_and_a_tuners_repeats_are_not() -> None:
    study = Study(slots=0)
    lines = study.watch(Lines())
    study.tell(*eventful()[2:])
    words = {line.split()[0].rstrip(":") for line in lines.all()}
    assert {"merging", "merged", "conflicted", "dropped", "lost", "exhausted", "finished"} <= words
    rejected = [line for line in lines.all() if line.startswith("rejected")]
    assert rejected == [
        "rejected s1: mine: the same tree as e1",
        "rejected e22: train.py:4: undefined name 'modle'",
        "rejected e23: train.py:9: undefined name 'made_elsewhere'",
    ]


def test_a_plain_line_begins_with_the_local_time() -> None:
    study = Study()
    lines = study.watch(Lines())
    study.baseline(0.41)
    at = study.events[-1].at.astimezone()
    assert lines.stream.getvalue().splitlines()[-1] == f"{at:%H:%M:%S} baseline e0"


def test_a_terminal_gets_a_picture_that_is_drawn_over() -> None:
    study = Study()
    study.baseline(0.41)
    study.start(study.propose("LR 0.1 -> 0.2"))
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80, height=24)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        view = LiveView(live)
        for _ in range(2):
            facts = status_facts(study.state, now=study.now, is_running=True, progress={})
            view.update(facts)
        view.notice("stopping\x1b[2J when what runs has finished")
    text = terminal.getvalue()
    assert text.count("LR 0.1 -> 0.2") >= 2
    assert "\x1b[1A" in text  # the cursor goes up to draw over the last picture
    assert "stopping when what runs has finished" in text


def test_a_terminal_shows_the_line_that_setup_is_at() -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80, height=24)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        view = LiveView(live)
        for line in ("shard 1 of 9\x1b[2J", "shard 2 of 9"):
            phase = f"preparing: {line}"
            state, now = Study(slots=0).state, Study().now
            view.update(status_facts(state, now=now, is_running=True, progress={}, phase=phase))
    text = terminal.getvalue()
    assert "preparing: shard 1 of 9" in text
    assert "preparing: shard 2 of 9" in text


def test_lines_go_to_a_pipe_and_leave_standard_output_to_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for as_json in (False, True):
        with make_view(as_json=as_json) as view:
            assert isinstance(view, PlainView)
            view.notice(f"json {as_json}")
    out, err = capsys.readouterr()
    assert (out, err) == ("json False\n", "json True\n")


def test_a_standing_notice_is_a_line_when_it_is_new() -> None:
    study, stream = Study(), io.StringIO()
    view = PlainView(stream)
    for notice in ("", "waiting for e4.1", "waiting for e4.1", "", "waiting for e4.1"):
        facts = status_facts(
            study.state, now=study.now, is_running=True, progress={}, notice=notice
        )
        view.update(facts)
    assert stream.getvalue() == "waiting for e4.1\n" * 2


def test_what_comes_before_the_first_slot_is_told_step_by_step() -> None:
    study, stream = Study(), io.StringIO()
    view = PlainView(stream)

    def update(state: StudyState, phase: str) -> None:
        view.update(status_facts(state, now=study.now, is_running=True, progress={}, phase=phase))

    update(StudyState(), "")
    steps = ("preparing: torch", "preparing: numpy", "preparing: numpy", "starting Ray", "")
    for phase in steps:
        update(Study(slots=0).state, phase)
    study.baseline(0.41)
    update(study.state, "")
    assert stream.getvalue().splitlines() == [
        "starting",
        "preparing: torch",
        "preparing: numpy",
        "starting Ray",
        "waiting for workers",
    ]


def test_what_ended_an_earlier_controller_is_no_step_of_the_next_one() -> None:
    study, stream = Study(slots=0), io.StringIO()
    view = PlainView(stream)
    study.tell(ev.StopRequested(), ev.ControllerStopped(epoch=1, reason="asked"))
    view.update(status_facts(study.state, now=study.now, is_running=True, progress={}))
    study.tell(ev.StudyFinished(reason="100 experiments", failed=False))
    view.update(status_facts(study.state, now=study.now, is_running=True, progress={}))
    assert not stream.getvalue()


def test_a_terminal_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb", buffering=0):
        monkeypatch.setattr(sys, "stdout", terminal)
        with make_view() as view:
            assert isinstance(view, LiveView)
        monkeypatch.setenv("TERM", "dumb")
        with make_view() as view:
            assert isinstance(view, PlainView)


def test_json_lines_hold_one_event_each() -> None:
    stream = io.StringIO()
    study = Study()
    view = JsonLinesView(stream)
    view.resume = lambda _: None  # type: ignore[attr-defined]
    study.watch(view)
    study.baseline(0.41)
    study.keep("LR 0.1 -> 0.2", 0.38)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["seq"] for line in lines] == [e.seq for e in study.events][-len(lines) :]
    promoted = lines[-1]
    assert promoted["event"] == "Promoted"
    assert promoted["data"]["experiment"] == "e1"
    assert promoted["text"].startswith("kept e1")
