"""`incumbent watch`."""

import sys

import typer

from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study


def watch(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Follow a running study; Ctrl-C leaves it running. With --json, one event a line."""
    from infra.attach import Left, follow
    from infra.closing import last_words
    from infra.controller_process import find_controller
    from infra.live_view import JsonLinesView, make_view
    from infra.settings import load_settings
    from infra.study import opened

    home = choose_study(study)
    if find_controller(home) is None:
        raise UsageProblem(f"the study {home.name} does not run (`incumbent run` starts it)")
    config = load_settings(home)
    with opened(home) as found:
        if as_json:
            left, _ = follow(found, JsonLinesView(sys.stdout), config, may_stop=False)
            raise typer.Exit(left is Left.DIED)
        with make_view() as view:
            left, state = follow(found, view, config, may_stop=False)
        raise typer.Exit(last_words(found, left, state, config))
