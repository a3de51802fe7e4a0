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
    from cluster.events import PauseRequested, ResumeRequested
    from infra.requests import request
    from infra.study import opened

    with opened(choose_study(name, to_act=True)) as study:
        request(study, PauseRequested() if is_paused else ResumeRequested())
    if as_json:
        print_json({"study": name, "paused": is_paused})
    else:
        say("paused: running trials finish" if is_paused else "resumed")
