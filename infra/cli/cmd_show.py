"""`incumbent show`."""

from typing import Annotated

import typer

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study


def show(
    experiment: Annotated[str, typer.Argument(help="An experiment, such as e42.")],
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Tell all about an experiment: its trials, verdict, merges and story."""
    from infra.facts import show_facts
    from infra.hints import Known
    from infra.settings import settings_if_any
    from infra.study import opened
    from infra.trial_logs import paths_of
    from trainer.trial import ExperimentId

    home = choose_study(study)
    with opened(home) as found:
        state = found.state()
        record = state.experiments.get(ExperimentId(experiment))
        if record is None:
            raise UsageProblem(f"there is no experiment {experiment} (see `incumbent log`)")
        events = found.ledger.get([seq for seq, _ in record.story])
    known = Known.of(settings_if_any(home), home.repository)
    facts = show_facts(state, record.id, events, known, paths_of(home, state, record.id))
    if as_json:
        print_json(facts)
    else:
        from infra.tables import render_show

        render_show(facts, metric=state.metric)
