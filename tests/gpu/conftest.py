"""A real card, claimed as a worker claims it, and trials on it, in the sandbox.

Without a card all of this skips.

On a machine with an NVIDIA card and a CUDA build of torch in the environment:

    .venv/bin/python -m pytest -m gpu -rs

takes about two minutes and at most a few GiB of the card (one test asks for more than there is).
"""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.trainer.sandbox.sandboxed_slot import SandboxedSlot
from trainer.endings import classify
from trainer.gpu import Gpu, NvmlGpus, NvmlSampler, device_nodes, mark_of
from trainer.gpu_watch import GpuWatch
from trainer.ports import Slot
from trainer.run_records import RunReport
from trainer.slots import Claim, Unavailable, claim_gpus
from trainer.supervisor_client import Supervisor
from trainer.trial import SlotId, TrialOutcome

BUSY_MB = 2000.0
LOOK_S = 0.5
PATIENCE_S = 120.0
NO_CARD = "no NVIDIA card: the driver shows none"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A claimed card, and what runs trials on it."""

    claim: Claim
    slot: SandboxedSlot
    supervisor: Supervisor

    @property
    def uuid(self) -> str:
        return self.claim.gpu_uuids[0]

    def card(self) -> Gpu:
        """The card as it is now."""
        return next(card for card in NvmlGpus().look() if card.uuid == self.uuid)

    def run(self, code: str, *, timeout_s: float = PATIENCE_S) -> tuple[TrialOutcome, str]:
        """Run Python code as a trial on the card; return what came of it, and its log."""
        sampler = NvmlSampler()
        watch = GpuWatch(
            sampler,
            self.claim.gpu_uuids,
            mark_prefix=self.slot.mark_prefix,
            mark_of=mark_of,
            tolerated_mb=BUSY_MB,
        )
        with closing(sampler):
            trial = self.slot.start(self.slot.commit(code), "e1", timeout_s=timeout_s)
            watch.begin()
            while not isinstance(report := self.supervisor.poll(LOOK_S), RunReport):
                watch.look()
            gpu = watch.end()
        kind = self.claim.device_class
        outcome = classify(report, device_class=kind, stages_s={"train": report.wall_s}, gpu=gpu)
        return outcome, self.slot.end(trial)


def slot_of(claim: Claim) -> Slot:
    return Slot(
        id=SlotId(claim.name),
        incarnation="a",
        node="n",
        device=claim.device,
        device_class=claim.device_class,
        gpu_uuids=claim.gpu_uuids,
    )


@pytest.fixture(scope="session")
def torch_with_cuda() -> None:
    """Skip unless there is a card, and a torch that can use it."""
    if not NvmlGpus().look():
        pytest.skip(NO_CARD)
    found = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.version.cuda or '')"],
        capture_output=True,
        text=True,
        check=True,
    )
    if not found.stdout.strip():
        pytest.skip("this environment's torch is built without CUDA")


@pytest.fixture
def bench(
    torch_with_cuda: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    study = uuid.uuid4().hex
    folder = tmp_path / study
    folder.mkdir()
    claim = claim_gpus(
        study=study, share=1, indexes=[0], worker=0, gpus=NvmlGpus(), busy_mb=BUSY_MB
    )
    if isinstance(claim, Unavailable):
        pytest.skip(f"the card is not free: {claim.reason}")
    with closing(Supervisor()) as supervisor:
        devices = device_nodes(claim.gpu_uuids, NvmlGpus())
        slot = SandboxedSlot(slot_of(claim), folder, supervisor, devices=devices)
        yield Bench(claim=claim, slot=slot, supervisor=supervisor)
    claim.release()


@pytest.fixture
def until() -> Callable[[Callable[[], bool], float], bool]:
    """Wait for something to become true; say whether it did in time."""

    def wait(condition: Callable[[], bool], patience_s: float) -> bool:
        give_up_at = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(0.05)
        return True

    return wait
