"""`incumbent approve` and `incumbent reject`: a person's say over candidates that are held."""

from typing import Annotated

import typer

from infra.cli.naming import experiment_named
from infra.cli.output import note, print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

ExperimentArgument = Annotated[str, typer.Argument(help="An experiment that is held, e.g. e42.")]


def approve(
    experiment: ExperimentArgument, study: StudyOption = "", as_json: JsonOption = False
) -> None:
    """Let a held candidate run; its patch is shown first."""
    _decide("approve", experiment, study, as_json, "")


def reject(
    experiment: ExperimentArgument,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, for the proposers: they read it.")
    ] = "",
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Do not let a held candidate run; its patch is shown first."""
    _decide("reject", experiment, study, as_json, reason)


def _decide(verb: str, name: str, study_name: str, as_json: bool, reason: str) -> None:
    from cluster.git.study_repository import StudyRepository
    from cluster.state.experiment import Status
    from cluster.state.proposing_events import ApproveRequested, RejectRequested
    from infra.facts.plain_text import one_line, printable_lines
    from infra.local.requests import request
    from infra.local.study import opened

    home = choose_study(study_name, to_act=True)
    with opened(home) as found:
        state = found.state()
        held = experiment_named(found, state, name)
        if held.status is not Status.HELD:
            others = ", ".join(each.id for each in state.opened(Status.HELD))
            cure = f"held are {others}" if others else "no experiment is held"
            raise UsageProblem(
                f"{held.id} is {held.status.words}: there is nothing to {verb}; {cure}"
            )
        repository = StudyRepository.open(home.git, study=home.name)
        patch = repository.diff(held.base_commit, held.commit)
        if not as_json:
            say(printable_lines(patch).rstrip("\n"))
        if verb == "approve":
            request(found, ApproveRequested(experiment=held.id))
        else:
            request(found, RejectRequested(experiment=held.id, reason=one_line(reason)))
    if as_json:
        print_json({"experiment": held.id, "requested": verb, "patch": patch})
    else:
        note(f"{verb} of {held.id} requested: {one_line(held.hypothesis)}")
