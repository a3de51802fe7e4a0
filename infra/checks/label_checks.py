"""Whether a study's labels are out of its trials' sight, as far as can be told before it starts.

The workers look again, by what their sandboxes really show: trainer.hidden_labels.
"""

from collections.abc import Mapping
from pathlib import Path

from cluster.config import StudyConfig
from infra.local.home import StudyProblem
from trainer.environment import EnvironmentFailed, is_there, user_path
from trainer.hidden_labels import NEEDS_SANDBOX, check_apart, place_of


def require_hidden_labels(config: StudyConfig, *checkouts: Path, is_final: bool = False) -> None:
    """Raise StudyProblem, with the cure, where trials could see the labels or nobody can.

    So it does where there are no inputs to ask a model about. Test labels, and their inputs, that
    are not there yet are missed by the final run alone.
    """
    if config.score is None:
        return
    if config.trial.sandbox == "none":
        raise StudyProblem(NEEDS_SANDBOX)
    scores = config.scores()
    try:
        places = dict(_seen(config)) | {f"the repository, {each}": each for each in checkouts}
        for section, score in scores.items():
            is_due = is_final or section != "[final]"
            if is_due or is_there(score.labels, f"{section} labels"):
                check_apart(place_of(score.labels, section), places, section)
            if is_due and score.inputs and not is_there(score.inputs, f"{section} inputs"):
                raise StudyProblem(f"{section} inputs: there is no {score.inputs}. Put it there")
    except EnvironmentFailed as error:
        raise StudyProblem(str(error)) from error


def _seen(config: StudyConfig) -> Mapping[str, Path]:
    """Return what of the user's trials are shown, by what names it; raises EnvironmentFailed."""
    named = (
        *(("[trial] data", path) for path in config.trial.data),
        *(("[final] data", path) for path in config.final.data),
        *((f"{section} inputs", each.inputs) for section, each in config.scores().items()),
    )
    return {f"{key}, {path}": _place(path, key) for key, path in named if path}


def _place(path: str, key: str) -> Path:
    """Return where that is, or will be; raises EnvironmentFailed where nobody can look."""
    is_there(path, key)
    return user_path(path, key)
