"""`incumbent logs`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.naming import with_experiment
from infra.cli.output import note, print_json
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

if TYPE_CHECKING:
    from infra.local.home import StudyHome
    from trainer.log_follower import LogFollower

LOOK_S = 0.2
RETURN_S = 15.0
"""How long to wait for the end of a log on another machine, once its trial has ended."""


def logs(
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment, one trial, or a step (e42, e42.1, e42.1-predict), or what was "
            "submitted (s-1f2e3d4c)."
        ),
    ],
    study: StudyOption = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the trial ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a trial printed, without terminal escapes."""
    from infra.facts.plain_text import printable_lines
    from infra.local.study import opened
    from infra.local.trial_logs import find_log, is_complete, is_running, trial_of
    from trainer.log_follower import LogFollower

    home = choose_study(study)
    with opened(home) as found:
        name = with_experiment(found, found.state(), experiment)
    _, dash, step = name.partition("-")
    path = _found(home, name, is_awaited=follow)
    if as_json:
        text = printable_lines(_news(LogFollower(path), is_last=True))
        print_json({"trial": path.stem, "path": str(path), "text": text})
        return
    log, patience_s = LogFollower(path), RETURN_S
    while True:
        has_news = _show(log, is_last=not follow)
        if not follow:
            return
        if not has_news:
            with opened(home) as found:
                state = found.state()
            latest = find_log(home, state, f"{trial_of(log.path)}{dash}{step}")
            if latest is not None and latest != log.path:
                _show(log, is_last=True)  # what has come since
                log = LogFollower(latest)  # its smoke run was all that there was before
                continue
            if is_complete(home, state, trial_of(log.path)):
                _show(log, is_last=True)
                return
            if not is_running(state, trial_of(log.path)):
                patience_s -= LOOK_S
                if patience_s <= 0:
                    _show(log, is_last=True)
                    note(f"the end of this log has not come back from its node: {log.path.stem}")
                    return
        time.sleep(LOOK_S)


def _found(home: "StudyHome", name: str, *, is_awaited: bool) -> Path:
    """Return the log that is meant; raises UsageProblem where there is none.

    Waits for one that is still to come, if that is wanted, as long as the study runs.
    """
    from infra.local.controller_process import find_controller
    from infra.local.study import opened
    from infra.local.trial_logs import find_log, is_to_come, why_no_log

    is_told = False
    while True:
        has_controller = find_controller(home) is not None  # before, or its last deed is missed
        with opened(home) as found:
            state = found.state()
        path = find_log(home, state, name)
        if path is not None:
            return path
        if not (is_awaited and has_controller and is_to_come(state, name)):
            raise UsageProblem(why_no_log(home, state, name))
        if not is_told:
            note(f"{name} has printed nothing yet: waiting")
            is_told = True
        time.sleep(LOOK_S)


def _show(log: "LogFollower", *, is_last: bool) -> bool:
    """Print what has come since the last time; return whether anything has."""
    from infra.facts.plain_text import printable_lines

    text = _news(log, is_last=is_last)
    if text:
        sys.stdout.write(printable_lines(text) + "\n" * text.endswith("\n"))
        sys.stdout.flush()
    return bool(text)


def _news(log: "LogFollower", *, is_last: bool) -> str:
    """Return what has come since, with progress lines apart."""
    return log.news(is_last=is_last).replace("\r", "\n")
