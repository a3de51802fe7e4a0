"""What a machine has to be, and is made, before it works for a study.

Knows what is looked at and prepared, and in which order. Does not know how a node joins: that is
cluster.nodes.node.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from cluster.nodes.driver import say
from cluster.transport.remote_code import WHOLE_S
from trainer.config import TrialConfig
from trainer.disk_room import lack_of_room
from trainer.environment import prepare
from trainer.gpu import NvmlGpus
from trainer.hidden_labels import place_of
from trainer.ports import CodeAway, CodeSource
from trainer.sandbox.arrange import arrange
from trainer.sandbox.choose import choose
from trainer.sandbox.diagnosis import Diagnosis
from trainer.slot_parts import WorkerSettings
from trainer.trial import CommitId


class NodeRefused(RuntimeError):
    """A machine cannot work for the study; the message says why and what to do."""


def require_machine(trial: TrialConfig, directory: Path) -> None:
    """See at once what would be found out late; raises NodeRefused."""
    if trial.gpus and not NvmlGpus().look():
        raise NodeRefused(
            f"a trial needs {trial.gpus:g} GPU, and the driver shows none on this machine "
            "(`incumbent doctor` says more)"
        )
    if problem := lack_of_room(directory):
        raise NodeRefused(problem)
    found = choose() if trial.sandbox != "none" else None
    if isinstance(found, Diagnosis):
        raise NodeRefused(found.text())


def make_ready(settings: WorkerSettings, code: CodeSource) -> None:
    """Fetch the base commit, make the environment, run `setup`, look at what is needed.

    Raises EnvironmentFailed, GitError, CodeAway.
    """
    repository = fetched(code, settings.base)
    say("phase", "preparing the environment")
    environment = prepare(
        settings.trial,
        base=settings.base,
        repository=repository,
        paths=settings.paths,
        study=settings.study,
        show=lambda line: say("phase", f"preparing: {line.strip()[:200]}"),
    )
    # Each worker does so again, where what is refused would be tried again and again.
    trial = settings.trial
    arrange(trial.sandbox, environment=environment, data=trial.data, paths=settings.paths)
    if settings.score is not None:
        place_of(settings.score.labels)


def fetched(code: CodeSource, base: CommitId) -> Path:
    """Return the repository with a study's first commit, and say meanwhile what is waited for.

    Raises CodeAway if it does not come in WHOLE_S.
    """
    give_up_at = time.monotonic() + WHOLE_S
    while True:
        lack = code.lack()
        say("phase", f"fetching the code: {lack}" if lack else "fetching the code")
        try:
            return code.fetch(base, is_ahead=True)
        except CodeAway:
            if time.monotonic() >= give_up_at:
                raise


def study_folder(directory: Path, study: str, base: str) -> Path:
    """Return (and make) where a node keeps what is of one study, by its id and first commit.

    Another one may be at the same address later, or the same be begun anew: it has trials of the
    same names, and is not to be sent the results of these.
    """
    digest = hashlib.sha256(f"{study} {base}".encode()).hexdigest()[:10]
    path = directory / f"study-{digest}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def slots_asked(asked: int, trial: Mapping[str, object]) -> int:
    """Return how many slots a crew is to have at most; 0 is as many as there are GPUs for."""
    has_cards = TrialConfig.model_validate_json(json.dumps(dict(trial))).gpus > 0
    return asked if has_cards else asked or cpu_slots()


def cpu_slots() -> int:
    """Return how many CPU slots a node brings unless told: half its cores, and at least 1."""
    return max(1, (os.cpu_count() or 1) // 2)
