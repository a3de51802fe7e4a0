"""What `incumbent run` hands to the controller process: the configuration, as validated."""

import json
import os

from cluster.config import LimitsConfig, StudyConfig
from infra.home import StudyHome, StudyProblem, write_atomically


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
    experiments: int | None = None,
    hours: float | None = None,
    usd: float | None = None,
    tokens: int | None = None,
    slots: int | None = None,
    address: str | None = None,
    sandbox: str | None = None,
) -> StudyConfig:
    """Return the configuration with what the command line says instead."""
    limits = _updated(
        config.limits, {"experiments": experiments, "hours": hours, "usd": usd, "tokens": tokens}
    )
    cluster = config.cluster.model_copy(
        update={k: v for k, v in {"slots": slots, "address": address}.items() if v is not None}
    )
    trial = config.trial.model_copy(update={"sandbox": sandbox or config.trial.sandbox})
    changed = config.model_copy(update={"limits": limits, "cluster": cluster, "trial": trial})
    # Copies are not validated, and the command line may say nonsense.
    return StudyConfig.model_validate_json(changed.model_dump_json())


def _updated(limits: LimitsConfig, changes: dict[str, float | None]) -> LimitsConfig:
    return limits.model_copy(update={k: v for k, v in changes.items() if v is not None})


def differences(old: StudyConfig, new: StudyConfig) -> list[str]:
    """Return the sections in which two configurations differ."""
    before, after = json.loads(old.model_dump_json()), json.loads(new.model_dump_json())
    return sorted(name for name in after if before.get(name) != after[name])
