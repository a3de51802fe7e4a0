"""`incumbent watch`."""

import sys

import typer

from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study


def watch(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Follow a running study; Ctrl-C leaves it running. With --json, one event a line."""
    from infra.display.attach import Follower, Left, counted_interrupts, follow
    from infra.display.closing import last_words
    from infra.display.live_view import JsonLinesView, make_view
    from infra.local.bounds import bounds_of
    from infra.local.controller_process import find_controller
    from infra.local.settings import load_settings
    from infra.local.study import opened

    home = choose_study(study)
    if find_controller(home) is None:
        raise UsageProblem(f"the study {home.name} does not run (`incumbent run` starts it)")
    config = load_settings(home)
    bounds = bounds_of(config)
    with opened(home) as found, counted_interrupts() as presses:
        if as_json:
            follower = Follower(found, JsonLinesView(sys.stdout), bounds)
            left = follow(follower, presses, may_stop=False)
            raise typer.Exit(left is Left.DIED)
        with make_view() as view:
            follower = Follower(found, view, bounds)
            left = follow(follower, presses, may_stop=False)
        raise typer.Exit(last_words(found, left, follower.state, config))
