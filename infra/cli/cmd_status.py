"""`incumbent status`."""

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption, StudyOption, choose_study


def status(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Show where a study stands: best so far, slots, queue, rate."""
    from cluster.ledger.ledger import LedgerAway
    from infra.display.attach import gather
    from infra.local.bounds import bounds_if_any
    from infra.local.controller_process import find_controller
    from infra.local.study import opened

    home = choose_study(study)
    try:
        with opened(home) as found:
            facts = gather(found, found.state(), bounds_if_any(home))
    except LedgerAway as error:
        if as_json:
            is_running = find_controller(home) is not None
            print_json({"study": home.name, "is_running": is_running, "away": str(error)})
        raise
    if as_json:
        print_json(facts)
    else:
        from infra.display.tables import render_status

        render_status(facts)
