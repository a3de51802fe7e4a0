"""`incumbent doctor`."""

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can and cannot do, with the cure, and what listens where."""
    from infra.doctor import examine

    report = examine()
    if as_json:
        print_json(report.facts())
    else:
        for line in report.lines():
            say(line)
    if report.has_failures:
        raise typer.Exit(1)
