"""Whether a study's labels are out of its trials' sight, as far as can be told before it starts.

The workers look again, by what their sandboxes really show: trainer.hidden_labels.
"""

from pathlib import Path

from cluster.config import StudyConfig
from infra.home import StudyProblem
from trainer.environment import EnvironmentFailed
from trainer.hidden_labels import NEEDS_SANDBOX, check_apart, place_of


def require_hidden_labels(config: StudyConfig, repository: Path, *, is_final: bool = False) -> None:
    """Raise StudyProblem, with the cure, where trials could see the labels or nobody can.

    Test labels that are not there yet are missed by the final run alone.
    """
    if config.score is None:
        return
    if config.trial.sandbox == "none":
        raise StudyProblem(NEEDS_SANDBOX)
    places = {
        f"the repository, {repository}": repository,
        **{f"[trial] data, {path}": Path(path).expanduser() for path in config.trial.data},
        **{f"[final] data, {path}": Path(path).expanduser() for path in config.final.data},
    }
    named = {
        "[score]": config.score.labels,
        "[holdout]": config.holdout.labels if config.holdout else "",
        "[final]": config.final.labels,
    }
    try:
        for section, labels in named.items():
            is_due = is_final or section != "[final]" or Path(labels).expanduser().exists()
            if labels and is_due:
                check_apart(place_of(labels, section), places, section)
    except EnvironmentFailed as error:
        raise StudyProblem(str(error)) from error
