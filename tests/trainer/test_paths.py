"""Where a worker keeps what."""

from dataclasses import replace
from pathlib import Path

import pytest

from trainer.paths import WorkerPaths
from trainer.trial import CommitId, ExperimentId, Rung, SlotId, TrialId, TrialSpec
from trainer.worktree import SlotWorktree

PATHS = WorkerPaths(study=Path("/study"), environments=Path("/environments"))


@pytest.mark.parametrize(
    ("attempt", "log", "out"), [(1, "e4.2.log", "e4.2-1"), (2, "e4.2-a2.log", "e4.2-2")]
)
def test_each_attempt_has_its_own_log_and_output(attempt: int, log: str, out: str) -> None:
    spec = TrialSpec(
        trial=TrialId("e4.2"),
        experiment=ExperimentId("e4"),
        attempt=attempt,
        commit=CommitId("0" * 40),
        seed=0,
        budget_s=1.0,
        timeout_s=1.0,
    )
    assert PATHS.log(spec) == Path("/study/logs", log)
    smoke = PATHS.log(replace(spec, rung=Rung.SMOKE))
    assert smoke == Path("/study/logs", log.replace(".log", "-smoke.log"))
    assert PATHS.out(spec) == Path("/study/out", out)


@pytest.mark.parametrize(
    "slot", ["cpu-0", "n1/gpu-0", "gpu-0.1", "gpu-0+1", "../..", "a.lock", "é"]
)
def test_git_takes_a_slots_folder_for_a_worktree_under_the_same_name(
    slot: str, tmp_path: Path, research: object
) -> None:
    paths = WorkerPaths(study=tmp_path, environments=tmp_path)
    commit = research.commit({"train.py": ""})  # type: ignore[attr-defined]
    path = paths.worktree(SlotId(slot))
    SlotWorktree(repository=research.bare, path=path).checkout(commit)  # type: ignore[attr-defined]
    assert path.parent == tmp_path / "worktrees"


def test_different_slots_have_different_folders() -> None:
    slots = ["gpu-0.1", "gpu-0+1", "gpu-0-1", "gpu/0-1", "gpu-0_2e_1", "base"]
    folders = {PATHS.worktree(SlotId(slot)) for slot in slots} | {PATHS.base_worktree}
    assert len(folders) == len(slots) + 1
