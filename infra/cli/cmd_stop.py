"""`incumbent stop`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import note, print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, choose_study

PATIENCE_S = 0.2


def stop(
    study: StudyOption = "",
    now: Annotated[
        bool, typer.Option("--now", help="Give running trials back instead of finishing them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """End everything that the study started, and nothing else; `run` carries on later."""
    from cluster.ledger.ledger import catch_up
    from infra.local.checkout import run_folder
    from infra.local.controller_process import find_controller
    from infra.local.final_process import end_final
    from infra.local.requests import request_stop
    from infra.local.study import opened
    from infra.processes.leftovers import end_leftovers

    home = choose_study(study, to_act=True)
    was_running = find_controller(home) is not None
    if was_running:
        if not now:
            note("finishing what runs (--now gives it back)")
        with opened(home) as found:
            state, noticed = found.state(), found.progress.notice()
            while find_controller(home) is not None:
                state = catch_up(found.ledger, state)
                request_stop(found, state, now=now)
                if (notice := found.progress.notice()) not in {"", noticed}:
                    note(notice)
                noticed = notice
                time.sleep(PATIENCE_S)
    has_ended_final = end_final(home)
    # A controller that was killed leaves Ray and its workers running: they are ours to end.
    ended = end_leftovers(home)
    with opened(home):
        pass  # so is its server, which stops with the last who uses it
    if as_json:
        print_json(
            {
                "study": home.name,
                "was_running": was_running,
                "ended_leftovers": ended,
                "ended_final": has_ended_final,
            }
        )
    elif was_running or ended or has_ended_final:
        folder = run_folder(home.name, home.repository, Path())
        say(f"stopped; `incumbent run` in {folder} carries on")
    else:
        say("nothing was running")
