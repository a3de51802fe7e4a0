"""What `incumbent run` hands to the controller process: the configuration, as validated."""

import json
import os
from collections.abc import Mapping

from cluster.config import StudyConfig
from cluster.config_file import checked
from infra.local.home import StudyHome, StudyProblem, write_atomically

_NOTHING: Mapping[str, None] = {}


def default_cpu_slots() -> int:
    """Return how many CPU slots a study gets unless told: half the cores, and at least 2."""
    return max(2, (os.cpu_count() or 1) // 2)


def save_settings(home: StudyHome, config: StudyConfig) -> None:
    """Write the configuration that the next controller works by."""
    write_atomically(home.settings, config.model_dump_json(indent=1) + "\n", mode=0o600)


def load_settings(home: StudyHome) -> StudyConfig:
    """Read it back; raises StudyProblem if there is none that this program understands."""
    try:
        return StudyConfig.model_validate_json(home.settings.read_text("utf-8"))
    except FileNotFoundError as error:
        raise StudyProblem(f"the study {home.name} was never run") from error
    except ValueError as error:
        problem = f"{home.settings} is not what this version writes: run `incumbent run` again"
        raise StudyProblem(problem) from error


def settings_if_any(home: StudyHome) -> StudyConfig | None:
    """Read it back; None for a study that was created by a submission and never ran."""
    try:
        return load_settings(home)
    except StudyProblem:
        return None


def overridden(
    config: StudyConfig,
    *,
    limits: Mapping[str, float | None] = _NOTHING,
    cluster: Mapping[str, int | str | None] = _NOTHING,
    sandbox: str | None = None,
) -> StudyConfig:
    """Return the configuration with what the command line says instead; None: it says nothing.

    Raises ConfigError where what it says is not possible.
    """
    changed = config.model_copy(
        update={
            "limits": config.limits.model_copy(update=_said(limits)),
            "cluster": config.cluster.model_copy(update=_said(cluster)),
            "trial": config.trial.model_copy(update=_said({"sandbox": sandbox})),
        }
    )
    # Copies are not validated, and the command line may say nonsense.
    return checked(changed.model_dump(), "the command line")


def _said(changes: Mapping[str, float | str | None]) -> dict[str, float | str]:
    return {name: value for name, value in changes.items() if value is not None}


def differences(old: StudyConfig, new: StudyConfig) -> list[str]:
    """Return the sections in which two configurations differ."""
    before, after = json.loads(old.model_dump_json()), json.loads(new.model_dump_json())
    return sorted(name for name in after if before.get(name) != after[name])
