"""`incumbent top`."""

from typing import Annotated

import typer

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption, StudyOption, choose_study


def top(
    study: StudyOption = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """List the best experiments, best first."""
    from eval.metric import Goal
    from infra.facts.facts import log_facts
    from infra.local.study import opened

    with opened(choose_study(study)) as found:
        state = found.state()
    sign = 1.0 if state.goal == Goal.MINIMIZE else -1.0
    scored = [facts for facts in log_facts(state) if facts["score"] is not None]
    best = sorted(scored, key=lambda facts: sign * (facts["score"] or 0.0))[:count]
    if as_json:
        print_json(best)
    else:
        from infra.display.tables import render_log

        render_log(best, metric=state.metric)
