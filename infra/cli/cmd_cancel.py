"""`incumbent cancel`, `incumbent retry` and `incumbent accept`."""

from typing import Annotated

import typer

from infra.cli.naming import experiment_named
from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

ExperimentArgument = Annotated[str, typer.Argument(help="An experiment, such as e42.")]


def cancel(
    experiment: ExperimentArgument, study: StudyOption = "", as_json: JsonOption = False
) -> None:
    """End an experiment: out of the queue, or off its slot."""
    _ask("cancel", experiment, study, as_json)


def retry(
    experiment: ExperimentArgument, study: StudyOption = "", as_json: JsonOption = False
) -> None:
    """Run an experiment again that failed, was pruned, cancelled or discarded, or is suspect."""
    _ask("retry", experiment, study, as_json)


def accept(
    experiment: ExperimentArgument, study: StudyOption = "", as_json: JsonOption = False
) -> None:
    """Have a suspect experiment judged as it is, after a look at it."""
    _ask("accept", experiment, study, as_json)


def _ask(verb: str, name: str, study_name: str, as_json: bool) -> None:
    from cluster.state.events import AcceptRequested, CancelRequested, RetryRequested
    from cluster.state.steps import TRANSITIONS
    from infra.local.requests import request
    from infra.local.study import opened

    kinds = {"cancel": CancelRequested, "retry": RetryRequested, "accept": AcceptRequested}
    kind = kinds[verb]
    with opened(choose_study(study_name, to_act=True)) as study:
        found = experiment_named(study, study.state(), name)
        if found.status not in TRANSITIONS[kind]:
            raise UsageProblem(f"{found.id} is {found.status.words}: there is nothing to {verb}")
        request(study, kind(experiment=found.id))
    if as_json:
        print_json({"experiment": found.id, "requested": verb})
    else:
        say(f"{verb} of {found.id} requested")
