"""`incumbent diff`."""

import sys
from typing import Annotated

import typer

from infra.cli.naming import experiment_named
from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study


def diff(
    experiment: Annotated[str, typer.Argument(help="An experiment, such as e42.")],
    study: StudyOption = "",
    against: Annotated[
        str,
        typer.Option("--against", help="Experiment to compare with; default: what it was made on."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show the patch of an experiment; failed ones are kept too."""
    from cluster.git.study_repository import StudyRepository
    from cluster.state.experiment import Kind
    from infra.facts.plain_text import printable_lines
    from infra.local.study import opened

    home = choose_study(study)
    with opened(home) as found:
        state = found.state()
        candidate = experiment_named(found, state, experiment)
        other = experiment_named(found, state, against) if against else None
    if candidate.kind is Kind.BASELINE and not other:
        name = candidate.id
        cure = f"`incumbent diff e42 --against {name}` shows what came of it"
        raise UsageProblem(f"{name} is the baseline, which is made of nothing else: {cure}")
    base = other.commit if other else candidate.base_commit
    patch = StudyRepository.open(home.git, study=home.name).diff(base, candidate.commit)
    if as_json:
        facts = {
            "experiment": candidate.id,
            "commit": candidate.commit,
            "base": base,
            "patch": patch,
        }
        print_json(facts)
    else:
        # For a pipe (`| git apply`) as it is; a terminal would obey what a candidate wrote in it.
        say((printable_lines(patch) if sys.stdout.isatty() else patch).rstrip("\n"))
