"""`incumbent status`."""

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption, StudyOption, choose_study


def status(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Show where a study stands: best so far, slots, queue, rate."""
    from infra.attach import gather
    from infra.settings import settings_if_any
    from infra.study import opened

    home = choose_study(study)
    with opened(home) as found:
        facts = gather(found, found.state(), settings_if_any(home))
    if as_json:
        print_json(facts)
    else:
        from infra.tables import render_status

        render_status(facts)
