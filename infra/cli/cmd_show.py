"""`incumbent show`."""

from typing import Annotated

import typer

from infra.cli.naming import experiment_or_refusal, refusal
from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, choose_study


def show(
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment or a trial of it (e42, e42.1), or what was submitted (s-1f2e3d4c)."
        ),
    ],
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Tell all about an experiment: its trials, verdict, merges and story."""
    from infra.facts.author_notes import author_notes
    from infra.facts.facts import show_facts
    from infra.facts.hints import Known
    from infra.facts.proposer_facts import call_events, call_facts
    from infra.local.settings import settings_if_any
    from infra.local.study import opened
    from infra.local.trial_logs import experiment_of, paths_of

    home = choose_study(study)
    with opened(home) as found:
        state = found.state()
        record = experiment_of(state, experiment) or experiment_or_refusal(found, state, experiment)
        if isinstance(record, dict):
            print_json(record) if as_json else say(refusal(record, state.metric))
            return
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
        from infra.display.tables import render_show

        render_show(facts, metric=state.metric)
