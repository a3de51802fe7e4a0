"""Whether a study's labels are out of its trials' sight, as far as can be told before it starts.

The workers look again, by what their sandboxes really show: trainer.hidden_labels.
"""

from pathlib import Path

from cluster.config import StudyConfig
from infra.home import StudyProblem
from trainer.environment import EnvironmentFailed
from trainer.hidden_labels import NEEDS_SANDBOX, check_apart, place_of


def require_hidden_labels(config: StudyConfig, repository: Path) -> None:
    """Raise StudyProblem, with the cure, where trials could see the labels or nobody can."""
    if config.score is None:
        return
    if config.trial.sandbox == "none":
        raise StudyProblem(NEEDS_SANDBOX)
    data = {f"[trial] data, {path}": Path(path).expanduser() for path in config.trial.data}
    try:
        labels = place_of(config.score.labels)
        check_apart(labels, {f"the repository, {repository}": repository, **data})
    except EnvironmentFailed as error:
        raise StudyProblem(str(error)) from error
