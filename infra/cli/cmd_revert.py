"""`incumbent revert`."""

from typing import Annotated

import typer

from infra.cli.handing_in import (
    MessageOption,
    PriorityOption,
    WaitOption,
    hand_in,
    new_name,
    refuse_impossible,
)
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study


def revert(
    experiment: Annotated[str, typer.Argument(help="An experiment that was merged, such as e42.")],
    message: MessageOption = "",
    priority: PriorityOption = 1,
    wait: WaitOption = False,
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Queue the best so far without the patch of one experiment; it is judged like any other."""
    from cluster.policy.reverts import NotOnBranch, to_undo
    from cluster.state.events import SubmissionReceived
    from infra.local.settings import load_settings
    from infra.local.study import opened
    from trainer.trial import ExperimentId

    name = ExperimentId(experiment)
    with opened(choose_study(study, to_act=True)) as found:
        state = found.state()
        try:
            to_undo(state, name)
        except NotOnBranch as refusal:
            raise UsageProblem(str(refusal)) from refusal
        wanted = SubmissionReceived(
            submission=new_name(),
            hypothesis=message or f"Revert {name}: {state.experiments[name].hypothesis}",
            priority=priority,
            reverts=name,
        )
        refuse_impossible(found, load_settings(found.home).study.editable, [wanted])
        hand_in(found, [wanted], wait=wait, as_json=as_json)
