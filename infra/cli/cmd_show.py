"""`incumbent show`."""

from typing import Annotated

import typer

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study


def show(
    experiment: Annotated[str, typer.Argument(help="An experiment, or a trial of it: e42, e42.1.")],
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Tell all about an experiment: its trials, verdict, merges and story."""
    from infra.author_notes import author_notes
    from infra.facts import show_facts
    from infra.hints import Known
    from infra.proposer_facts import call_events, call_facts
    from infra.settings import settings_if_any
    from infra.study import opened
    from infra.trial_logs import experiment_of, paths_of

    home = choose_study(study)
    with opened(home) as found:
        state = found.state()
        record = experiment_of(state, experiment)
        if record is None:
            raise UsageProblem(f"there is no experiment {experiment} (see `incumbent log`)")
        events = found.ledger.get([seq for seq, _ in record.story])
        call = call_facts(call_events(found.ledger, record))
    settings = settings_if_any(home)
    facts = show_facts(
        state,
        record.id,
        events,
        Known.of(settings, home.repository),
        paths_of(home, state, record.id),
        call=call,
        notes=author_notes(home.calls, record.origin),
        max_fixes=settings.proposals.max_fixes if settings else 0,
    )
    if as_json:
        print_json(facts)
    else:
        from infra.tables import render_show

        render_show(facts, metric=state.metric)
