"""What is said when a run has ended."""

import sys
from pathlib import Path

from cluster.config import StudyConfig
from cluster.state.experiment import Status
from cluster.state.state import StudyState
from infra.display.attach import Left, gather
from infra.display.tables import render_summary
from infra.facts.hints import Known, next_step
from infra.facts.plain_text import one_line, printable_lines
from infra.local.bounds import Bounds, bounds_of
from infra.local.checkout import run_folder
from infra.local.study import OpenStudy
from trainer.trial import number_of


def last_words(
    study: OpenStudy,
    left: Left,
    state: StudyState,
    config: StudyConfig | None,
    path: Path = Path(),
) -> int:
    """Say how it ended and how to go on, on standard error; return the exit code.

    `path` is what the command was told the study by: the folder that it was called in, or another.
    """
    home = study.home
    if left is Left.DETACHED:
        if state.stopping:
            _say("the study is still stopping, by itself")
        else:
            _say("the study goes on; `incumbent run` attaches again, `incumbent stop` ends it")
        return 0
    if left is Left.DIED:
        _say(f"the controller died; its last words, from {home.controller_log}:")
        _say(_tail(home.controller_log.read_text("utf-8", "replace")))
        _say("`incumbent run` carries on where it was")
        return 1
    if state.is_failed:
        _say(f"failed: {state.finished}")
        _say(_failed_baseline(state))
        _say(_cure(state, Known.of(config, home.repository)))
        return 1
    bounds = bounds_of(config) if config else Bounds()
    render_summary(gather(study, state, bounds), file=sys.stderr)
    _say(_suspects(state))
    if not state.finished:
        folder = run_folder(home.name, home.repository, path)
        _say(f"stopped; `incumbent run` in {folder} carries on")
    return 0


def _say(text: str) -> None:
    if text:
        sys.stderr.write(text + "\n")


def _tail(text: str, lines: int = 8) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _suspects(state: StudyState) -> str:
    """Return which experiments wait for a look, and how to have it."""
    found = [e for e in state.experiments.values() if e.status is Status.SUSPECT]
    if not found:
        return ""
    names = ", ".join(e.id for e in sorted(found, key=lambda e: number_of(e.id)))
    verb = "is" if len(found) == 1 else "are"
    return (
        f"{names} {verb} better but suspect, and not kept: `incumbent show` tells why, `accept` "
        "or `retry` decides"
    )


def _cure(state: StudyState, known: Known) -> str:
    """Return what to do about the baseline, if it is what failed and its words tell."""
    found = state.baseline
    step = next_step(found, known) if found and found.status.is_failure else ""
    return f"next: {one_line(step)}" if step else ""


def _failed_baseline(state: StudyState) -> str:
    """Return the end of the baseline's log, if it is what failed."""
    baseline = state.baseline
    if baseline is None or not baseline.status.is_failure:
        return ""
    try:
        return printable_lines(baseline.last_outcome.tail)
    except ValueError:
        return ""
