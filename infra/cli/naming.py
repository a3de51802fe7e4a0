"""Which experiment somebody means: by its own name, or by that of what was submitted."""

import re
from typing import TYPE_CHECKING

from infra.cli.study_choice import UsageProblem

if TYPE_CHECKING:
    from cluster.state.experiment import Experiment
    from cluster.state.state import StudyState
    from infra.facts.refused import RefusedFacts
    from infra.local.study import OpenStudy

_SUBMISSION = re.compile(r"s-[0-9a-f]{8}")


def experiment_named(study: "OpenStudy", state: "StudyState", name: str) -> "Experiment":
    """Return the experiment; raises UsageProblem, which says what became of a submission."""
    found = experiment_or_refusal(study, state, name)
    if isinstance(found, dict):
        raise UsageProblem(refusal(found, state.metric))
    return found


def with_experiment(study: "OpenStudy", state: "StudyState", name: str) -> str:
    """Return the name of an experiment, a trial or a step, with no submission's name in it.

    What begins with the name of a submission (`s-1f2e3d4c.1`) is of the experiment that it became.

    Raises:
        UsageProblem: it became none.
    """
    found = _SUBMISSION.match(name)
    if found is None:
        return name
    return experiment_named(study, state, found[0]).id + name[found.end() :]


def experiment_or_refusal(
    study: "OpenStudy", state: "StudyState", name: str
) -> "Experiment | RefusedFacts":
    """Return the experiment, or how the submission of that name was refused.

    Raises:
        UsageProblem: there is neither.
    """
    from infra.facts.refused import submission_fate
    from trainer.trial import ExperimentId

    if known := state.experiments.get(ExperimentId(name)):
        return known
    if any(waiting.submission == name for waiting in state.submissions):
        raise UsageProblem(f"{name} waits to become an experiment, which a study that runs makes")
    fate = submission_fate(state, study.ledger, name) if name.startswith("s-") else None
    if isinstance(fate, str):
        return state.experiments[ExperimentId(fate)]
    if fate is None:
        raise UsageProblem(f"there is no experiment {name} (see `incumbent log`)")
    return fate


def refusal(facts: "RefusedFacts", metric: str) -> str:
    """Return in a line how a submission was refused."""
    from infra.facts.plain_text import number, one_line

    said = f"{facts['submission']} was refused: {one_line(facts['reason'])}"
    if not (twin := facts["duplicate_of"]):
        return said
    score = facts["duplicate_score"]
    measured = f" with {metric} {number(score)}" if score is not None else ""
    status = facts["duplicate_status"].replace("_", " ")
    return f"{said}, which is {status}{measured} (see `incumbent show {twin}`)"
