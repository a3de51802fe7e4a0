"""`incumbent log`."""

from typing import Annotated

import typer

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption, StudyOption, choose_study


def log(
    study: StudyOption = "",
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Only so many; 0: all.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List the experiments of a study, oldest first."""
    from infra.facts import log_facts
    from infra.study import opened

    with opened(choose_study(study)) as found:
        state = found.state()
    facts = log_facts(state)[-last:]
    if as_json:
        print_json(facts)
    else:
        from infra.tables import render_log

        render_log(facts, metric=state.metric)
