"""Which slots a final run takes beside a study that runs."""

from pathlib import Path

import pytest

from eval.metric import Goal, Metric
from infra.local.home import StudyProblem
from infra.processes import final_run
from infra.processes.final_run import slots_for
from trainer import slot_parts
from trainer.config import TrialConfig
from trainer.gpu import Gpu
from trainer.paths import WorkerPaths
from trainer.slot_parts import WorkerSettings, claim
from trainer.slots import Claim, Unavailable
from trainer.trial import CommitId


class OneCard:
    """What the driver shows of a machine with one card, on which nothing runs."""

    def look(self) -> tuple[Gpu, ...]:
        return (Gpu(uuid="GPU-0", index=0, name="RTX 4090", total_mb=24000.0, used_mb=0.0),)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerSettings:
    """What workers are told whose trials take half a card each."""
    monkeypatch.setenv("INCUMBENT_LOCK_DIR", str(tmp_path / "locks"))
    for module in (final_run, slot_parts):
        monkeypatch.setattr(module, "NvmlGpus", OneCard)
    return WorkerSettings(
        study="mar5-1f2e3d4c",
        base=CommitId("c" * 40),
        paths=WorkerPaths(study=tmp_path, environments=tmp_path),
        trial=TrialConfig(command="python train.py", gpus=0.5, sandbox="none"),
        metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=""),
        slots=2,
        gpu_busy_mb=2000.0,
    )


def test_a_card_whose_shares_are_all_of_the_study_has_none_for_a_final_run(
    settings: WorkerSettings,
) -> None:
    worker = claim(settings, [0])
    assert isinstance(worker, Claim)
    with pytest.raises(StudyProblem, match="card 0 is taken by study mar5-1f2e3d4c"):
        slots_for(settings, 2)
    worker.release()
    found = slots_for(settings, 2)
    assert len(found) == 2, "both of its own share the card"
    assert isinstance(claim(settings, [0]), Unavailable), "and the study's workers wait"
    for each in found:
        each.release()
