"""`incumbent diff`."""

import sys
from typing import Annotated

import typer

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
    from cluster.experiment import Kind
    from cluster.study_repository import StudyRepository
    from infra.plain_text import printable_lines
    from infra.study import opened
    from trainer.trial import ExperimentId

    home = choose_study(study)
    with opened(home) as found:
        experiments = found.state().experiments
    for name in filter(None, (experiment, against)):
        if ExperimentId(name) not in experiments:
            raise UsageProblem(f"there is no experiment {name} (see `incumbent log`)")
    candidate = experiments[ExperimentId(experiment)]
    if candidate.kind is Kind.BASELINE and not against:
        cure = f"`incumbent diff e42 --against {experiment}` shows what came of it"
        raise UsageProblem(f"{experiment} is the baseline, which is made of nothing else: {cure}")
    base = experiments[ExperimentId(against)].commit if against else candidate.base_commit
    patch = StudyRepository.open(home.git, study=home.name).diff(base, candidate.commit)
    if as_json:
        facts = {"experiment": experiment, "commit": candidate.commit, "base": base, "patch": patch}
        print_json(facts)
    else:
        # For a pipe (`| git apply`) as it is; a terminal would obey what a candidate wrote in it.
        say((printable_lines(patch) if sys.stdout.isatty() else patch).rstrip("\n"))
