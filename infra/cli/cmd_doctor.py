"""`incumbent doctor`."""

import shutil
import sys

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can and cannot do, with the cure, and what listens where."""
    from infra.checks.doctor import examine

    report = examine()
    if as_json:
        print_json(report.facts())
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        for line in report.lines(columns):
            say(line)
    if report.has_failures:
        raise typer.Exit(1)
