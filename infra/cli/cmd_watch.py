"""`incumbent watch`."""

import typer

from infra.cli.output import note, print_json
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study


def watch(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Follow a running study; Ctrl-C leaves it running. With --json, one event a line."""
    from infra.attach import follow, gather
    from infra.closing import last_words
    from infra.controller_process import find_controller
    from infra.live_view import make_view
    from infra.settings import load_settings
    from infra.study import opened

    home = choose_study(study)
    if find_controller(home) is None:
        raise UsageProblem(f"the study {home.name} does not run (`incumbent run` starts it)")
    config = load_settings(home)
    with opened(home) as found:
        with make_view(as_json=as_json) as view:
            left, state = follow(found, view, config, may_stop=False)
        if as_json:
            print_json(gather(found, state, config))
        elif not state.study:
            note("nothing was recorded")
        raise typer.Exit(last_words(found, left, state, config))
