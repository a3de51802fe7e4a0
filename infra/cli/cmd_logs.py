"""`incumbent logs`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.naming import with_experiment
from infra.cli.output import note, print_json
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

LOOK_S = 0.2
RETURN_S = 15.0
"""How long to wait for the end of a log on another machine, once its trial has ended."""
MOST_BYTES = 1 << 24
"""Far more than the supervisor keeps of a log."""


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
    from infra.local.trial_logs import find_log, is_complete, is_running, trial_of, why_no_log

    home = choose_study(study)
    with opened(home) as found:
        state = found.state()
        name = with_experiment(found, state, experiment)
    _, dash, step = name.partition("-")
    path = find_log(home, state, name)
    if path is None:
        raise UsageProblem(why_no_log(home, state, name))
    if as_json:
        print_json(
            {"trial": path.stem, "path": str(path), "text": printable_lines(_read(path, 0)[0])}
        )
        return
    offset, patience_s = 0, RETURN_S
    while True:
        shown, offset = offset, _show(path, offset)
        if not follow or offset == shown:
            with opened(home) as found:
                state = found.state()
            latest = find_log(home, state, f"{trial_of(path)}{dash}{step}")
            if follow and latest not in {None, path}:
                _show(path, offset)  # what has come since
                path, offset = latest, 0  # its smoke run was all that there was before
                continue
            if not follow:
                return
            if is_complete(home, state, trial_of(path)):
                _show(path, offset)
                return
            if not is_running(state, trial_of(path)):
                patience_s -= LOOK_S
                if patience_s <= 0:
                    note(f"the end of this log has not come back from its node: {path.stem}")
                    return
        time.sleep(LOOK_S)


def _show(path: Path, offset: int) -> int:
    """Print what there is after `offset`; return the new one."""
    from infra.facts.plain_text import printable_lines

    text, end = _read(path, offset)
    if text:
        sys.stdout.write(printable_lines(text) + "\n" * text.endswith("\n"))
        sys.stdout.flush()
    return end


def _read(path: Path, offset: int) -> tuple[str, int]:
    """Return the text after `offset`, with progress lines apart, and the new offset.

    As if a candidate had made the file, which one that is not confined can do. Raises Unsafe.
    """
    from trainer.safe_read import SafeFolder

    with SafeFolder(path.parent) as folder:
        data = b"".join(folder.chunks(path.name, MOST_BYTES, start=offset))
        if not data and offset and not any(folder.chunks(path.name, MOST_BYTES, start=offset - 1)):
            offset = 0  # it was cut in the middle, and is read again
            data = folder.read(path.name, MOST_BYTES)
    return data.decode("utf-8", "replace").replace("\r", "\n"), offset + len(data)
