"""`incumbent pause` and `incumbent resume`."""

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, choose_study


def pause(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Start no more trials; those that run finish."""
    _switch(study, as_json, is_paused=True)


def resume(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Start trials again after a pause."""
    _switch(study, as_json, is_paused=False)


def _switch(name: str, as_json: bool, *, is_paused: bool) -> None:
    from cluster.state.events import PauseRequested, ResumeRequested
    from infra.local.controller_process import find_controller
    from infra.local.requests import request
    from infra.local.study import opened

    home = choose_study(name, to_act=True)
    is_running = find_controller(home) is not None
    with opened(home) as study:
        request(study, PauseRequested() if is_paused else ResumeRequested())
    if as_json:
        print_json({"study": home.name, "paused": is_paused, "running": is_running})
    elif is_running:
        say("paused: running trials finish" if is_paused else "resumed")
    else:
        then = "begins no trial until `incumbent resume`" if is_paused else "carries on"
        say(f"{home.name} is not running; `incumbent run` {then}")
