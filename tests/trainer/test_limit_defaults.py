import pytest
from pydantic import ValidationError

from trainer.config import TrialConfig
from trainer.limit_defaults import limits_for, machine_memory
from trainer.limits import GB
from trainer.run_records import Limits


@pytest.mark.parametrize(
    ("machine_gb", "slots", "share_gb"),
    [
        (100, 1, 90),  # a tenth is reserved,
        (16, 1, 14),  # but 2 GB at least,
        (3, 1, 1.5),  # and half of a small machine at most
        (100, 8, 11.2),
        (0.1, 4, 0.1),
    ],
)
def test_the_memory_of_a_machine_is_shared_among_its_slots(machine_gb, slots, share_gb):
    found = limits_for(TrialConfig(command="x"), machine_bytes=round(machine_gb * GB), slots=slots)
    assert found.memory_bytes == round(share_gb * GB)
    assert found.folders == ()


def test_what_a_study_asks_for_is_what_its_trials_get():
    config = TrialConfig(
        command="x", memory_gb=1.5, disk_gb=0.5, disk_files=10, pids=20, open_files=64
    )
    assert limits_for(config, machine_bytes=GB, slots=9) == Limits(
        memory_bytes=1_500_000_000,
        disk_bytes=500_000_000,
        disk_files=10,
        pids=20,
        open_files=64,
    )


@pytest.mark.parametrize("key", ["memory_gb", "disk_gb", "disk_files", "pids", "open_files"])
def test_no_limit_can_be_nothing(key):
    with pytest.raises(ValidationError, match=key):
        TrialConfig.model_validate({"command": "x", key: 0})


def test_a_machine_has_no_more_memory_than_its_control_group_allows(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemFree:  1 kB\nMemTotal:       2000 kB\n")
    monkeypatch.setattr("trainer.limit_defaults.memory_ceiling", lambda: None)
    assert machine_memory(meminfo) == 2000 << 10
    monkeypatch.setattr("trainer.limit_defaults.memory_ceiling", lambda: 9000)
    assert machine_memory(meminfo) == 9000
