"""Which devices a trial finds in its sandbox: those of its slot (of real cards: tests/gpu)."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.trainer.sandbox.sandboxed_slot import SandboxedSlot
from tests.trainer.trials import cpu_slot
from trainer.sandbox import arrange
from trainer.supervisor_client import Supervisor

NODE = "/dev/fuse"
"""Stands for a card: a device that no sandbox has by itself."""
LOOK = """
import os
print("nodes:", *sorted(os.listdir("/dev")))
print("kind:", os.major(os.stat("/dev/fuse").st_rdev) if os.path.exists("/dev/fuse") else "none")
"""


@pytest.mark.skipif(not Path(NODE).exists(), reason=f"this machine has no {NODE}")
def test_a_trial_finds_the_device_nodes_of_its_slot_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrange, "_UNIFIED_MEMORY", (NODE,))
    found = {}
    for devices in ((), (NODE,)):
        folder = tmp_path / str(len(devices))
        folder.mkdir()
        with closing(Supervisor()) as supervisor:
            slot = SandboxedSlot(cpu_slot(), folder, supervisor, devices=devices)
            found[devices] = slot.run(slot.commit(LOOK), "e1").splitlines()
    assert found[()][1] == "kind: none"
    assert found[NODE,][1] == "kind: 10"
    assert set(found[NODE,][0].split()) - set(found[()][0].split()) == {"fuse"}
