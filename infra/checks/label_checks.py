"""Whether a study's labels are out of its trials' sight, as far as can be told before it starts.

The workers look again, by what their sandboxes really show: trainer.hidden_labels.
"""

from pathlib import Path

from cluster.config import StudyConfig
from infra.local.home import StudyProblem
from trainer.environment import EnvironmentFailed
from trainer.hidden_labels import NEEDS_SANDBOX, check_apart, place_of


def require_hidden_labels(config: StudyConfig, repository: Path, *, is_final: bool = False) -> None:
    """Raise StudyProblem, with the cure, where trials could see the labels or nobody can.

    So it does where there are no inputs to ask a model about. Test labels, and their inputs, that
    are not there yet are missed by the final run alone.
    """
    if config.score is None:
        return
    if config.trial.sandbox == "none":
        raise StudyProblem(NEEDS_SANDBOX)
    scores = config.scores()
    places = {
        f"the repository, {repository}": repository,
        **{f"[trial] data, {path}": Path(path).expanduser() for path in config.trial.data},
        **{f"[final] data, {path}": Path(path).expanduser() for path in config.final.data},
        **{
            f"{section} inputs, {score.inputs}": Path(score.inputs).expanduser()
            for section, score in scores.items()
            if score.inputs
        },
    }
    try:
        for section, score in scores.items():
            is_due = is_final or section != "[final]"
            if is_due or Path(score.labels).expanduser().exists():
                check_apart(place_of(score.labels, section), places, section)
            if is_due and score.inputs and not Path(score.inputs).expanduser().exists():
                raise StudyProblem(f"{section} inputs: there is no {score.inputs}. Put it there")
    except EnvironmentFailed as error:
        raise StudyProblem(str(error)) from error
