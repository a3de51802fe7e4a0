"""`incumbent ls`."""

from infra.cli.output import print_json
from infra.cli.study_choice import JsonOption


def list_studies(as_json: JsonOption = False) -> None:
    """List the studies of this machine, and those that it has joined."""
    from infra.local.overview import overview

    found = overview()
    if as_json:
        print_json(found)
    else:
        from infra.display.overview_table import render_overview

        render_overview(found)
