"""`incumbent why`."""

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption, StudyOption, choose_study


def why(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Say why the best so far is that: each promotion, its trials, and what it replaced."""
    from infra.facts.why import promotion_seqs, why_facts
    from infra.local.study import opened

    with opened(choose_study(study)) as found:
        state = found.state()
        events = found.ledger.get(promotion_seqs(state))
    facts = why_facts(state, events)
    if as_json:
        print_json(facts)
    else:
        from infra.display.why_table import render_why

        render_why(facts)
