"""What `submit` and `revert` share: to refuse early, to hand in, to wait, and to report."""

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import note, note_if_any, print_json, say
from infra.cli.study_choice import UsageProblem

if TYPE_CHECKING:
    from cluster.state.events import SubmissionReceived
    from cluster.state.state import StudyState
    from infra.local.study import OpenStudy
    from trainer.trial import ExperimentId


def _printable(message: str) -> str:
    from infra.facts.plain_text import printable_lines

    return printable_lines(message).strip()


MessageOption = Annotated[
    str, typer.Option("--message", "-m", callback=_printable, help="What it is to try.")
]
PriorityOption = Annotated[
    int, typer.Option("--priority", help="Higher runs earlier; proposers use 0.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the verdict.")]
LOOK_S = 0.3


def new_name() -> str:
    """Return a name for a submission that no other has."""
    return f"s-{uuid.uuid4().hex[:8]}"


def refuse_impossible(
    study: "OpenStudy", editable: Sequence[str], made: "Sequence[SubmissionReceived]"
) -> None:
    """Raise UsageProblem for what the controller would reject as things are.

    It has the last word: by then there may be another incumbent. The points of a grid are left to
    it, as git takes a while for each.
    """
    from cluster.controller.admission import twin_of
    from cluster.controller.submissions import materialise
    from cluster.git.code_outcomes import Rejected
    from cluster.git.study_repository import StudyRepository

    state = study.state()
    repository = StudyRepository.open(study.home.git, study=study.home.name)
    for submission in made if len(made) == 1 else ():
        candidate, _ = materialise(
            submission,
            state=state,
            repository=repository,
            source=study.home.repository,
            editable=editable,
        )
        if isinstance(candidate, Rejected):
            cure = _cure(study, submission) if candidate.is_stale else ""
            raise UsageProblem(candidate.reason + cure)
        if twin := twin_of(state, candidate.tree, submission.reverts):
            raise UsageProblem(_repetition(state, twin, submission))


def _repetition(state: "StudyState", name: "ExperimentId", submission: "SubmissionReceived") -> str:
    from cluster.state.events import RetryRequested
    from cluster.state.steps import TRANSITIONS
    from infra.facts.experiment_facts import score_of
    from infra.facts.plain_text import number

    twin = state.experiments[name]
    status = twin.status.words
    if submission.reverts:
        return f"{name} takes {submission.reverts} out already: it is {status}"
    score = score_of(twin)
    measured = f" with {state.metric} {number(score)}" if score is not None else ""
    again = twin.status in TRANSITIONS[RetryRequested]
    cure = f"`incumbent retry {name}` runs it again" if again else f"see `incumbent show {name}`"
    return f"that is the same tree as {name}, which is {status}{measured}: {cure}"


def _cure(study: "OpenStudy", submission: "SubmissionReceived") -> str:
    if submission.reverts:
        return "; take it out by hand, and hand that in: `incumbent submit --patch FILE`"
    best = f"incumbent/{study.home.name}"
    return f"; it has to apply to the best so far: rebase it onto {best}"


def hand_in(
    study: "OpenStudy", made: "Sequence[SubmissionReceived]", *, wait: bool, as_json: bool
) -> None:
    """Append submissions, wait for their verdicts if told to, and print what became of them.

    Ends with exit code 1 if one that was waited for was rejected.
    """
    from infra.local.controller_process import find_controller
    from infra.local.requests import request

    before = study.state() if wait else None
    for submission in made:
        request(study, submission)
    if not wait and find_controller(study.home) is None:
        note("the study does not run: the next `incumbent run` takes it up")
    verdicts = _wait(study, before, [s.submission for s in made]) if before else {}
    _report(made, verdicts, as_json=as_json)
    if any(v.get("status") == "rejected" for v in verdicts.values()):
        raise typer.Exit(1)


def _wait(
    study: "OpenStudy", before: "StudyState", names: list[str]
) -> dict[str, dict[str, object]]:
    """Wait until every submission has come to an end; return what became of each.

    `before` is the state before they were handed in. What has to happen first is said once,
    whenever it comes to that. Raises StudyProblem where the study is set aside meanwhile.
    """
    from infra.facts.submission_fate import SubmissionFates

    fates, told = SubmissionFates(names, before), ""
    folder = study.home.folder()
    while True:
        try:
            fates.read(study.ledger)
        finally:  # the ledger of another study in its place may have been read, or none
            _require_in_place(study, folder)
        if fates.are_known():
            return fates.facts()
        if (obstacle := _obstacle(study, fates.state)) != told:
            note_if_any(obstacle)
            told = obstacle
        time.sleep(LOOK_S)


def _require_in_place(study: "OpenStudy", folder: tuple[int, int] | None) -> None:
    """Raise StudyProblem where a study's folder is not that which it was."""
    from infra.local.home import StudyProblem

    home = study.home
    if home.folder() != folder:
        raise StudyProblem(
            f"the study {home.name} was set aside or moved away meanwhile, and no verdict comes "
            "any more: if a study was begun anew in its place, what waited goes on with that "
            "(`incumbent log`)"
        )


def _obstacle(study: "OpenStudy", state: "StudyState") -> str:
    """Say why no verdict comes by itself; empty where one may."""
    from infra.local.controller_process import find_controller

    if find_controller(study.home) is None:
        return "the study does not run: waiting for `incumbent run`"
    return "the study is paused: waiting for `incumbent resume`" if state.is_paused else ""


def _report(
    made: "Sequence[SubmissionReceived]",
    verdicts: dict[str, dict[str, object]],
    *,
    as_json: bool,
) -> None:
    rows = [
        {
            "submission": s.submission,
            "hypothesis": s.hypothesis,
            "priority": s.priority,
            **verdicts.get(s.submission, {}),
        }
        for s in made
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        status = f": {row['status']} {row.get('reason', '')}".rstrip() if "status" in row else ""
        say(f"{row.get('experiment') or row['submission']} {row['hypothesis']}{status}")
