"""Which device a slot is, and when it takes no trials."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.gpu import Gpu
from trainer.slots import Claim, Unavailable, claim_cpu, claim_gpus


class FakeGpus:
    """Two cards; strangers hold some memory on the second."""

    def __init__(self, strangers_mb: float = 0.0) -> None:
        self.strangers_mb = strangers_mb

    def look(self) -> tuple[Gpu, ...]:
        names = ((0, 0.0), (1, self.strangers_mb))
        return tuple(
            Gpu(uuid=f"GPU-{i}", index=i, name="RTX 4090", total_mb=24000.0, used_mb=used)
            for i, used in names
        )


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUMBENT_LOCK_DIR", str(tmp_path / "locks"))


@pytest.fixture
def held() -> Iterator[list[Claim]]:
    claims: list[Claim] = []
    yield claims
    for claim in claims:
        claim.release()


def gpu(held: list[Claim], *indexes: int, study: str = "s", share: float = 1.0,
        strangers: float = 0, worker: int = 0) -> Claim | Unavailable:  # fmt: skip
    found = claim_gpus(
        study=study,
        share=share,
        indexes=indexes,
        worker=worker,
        gpus=FakeGpus(strangers),
        busy_mb=2000,
    )
    if isinstance(found, Claim):
        held.append(found)
    return found


def test_a_card_is_told_by_its_uuid_and_its_class(held: list[Claim]) -> None:
    claim = gpu(held, 1)
    assert isinstance(claim, Claim)
    assert (claim.name, claim.gpu_uuids) == ("gpu-1", ("GPU-1",))
    assert (claim.device, claim.device_class) == ("RTX 4090", "RTX 4090")


def test_two_cards_of_one_trial_are_one_slot(held: list[Claim]) -> None:
    claim = gpu(held, 0, 1, share=2)
    assert isinstance(claim, Claim)
    assert (claim.name, claim.gpu_uuids) == ("gpu-0+1", ("GPU-0", "GPU-1"))
    assert claim.device_class == "RTX 4090 x2"


def test_workers_of_one_study_share_a_card_and_those_of_another_do_not(held: list[Claim]) -> None:
    first = gpu(held, 0, share=0.5, worker=0)
    second = gpu(held, 0, share=0.5, worker=1)
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)
    assert (first.name, second.name) == ("gpu-0.0", "gpu-0.1")
    other = gpu(held, 0, study="other", share=0.5)
    assert isinstance(other, Unavailable)
    assert "study" in other.reason
    assert "s (process" in other.reason


def test_a_card_with_strangers_on_it_takes_no_trials_and_keeps_no_lock(held: list[Claim]) -> None:
    found = gpu(held, 1, strangers=3000)
    assert isinstance(found, Unavailable)
    assert found.reason == "strangers hold 3000 MiB on card 1"
    assert isinstance(gpu(held, 1, study="other"), Claim)


def test_a_little_memory_of_strangers_does_no_harm(held: list[Claim]) -> None:
    assert isinstance(gpu(held, 1, strangers=500), Claim)


def test_when_one_of_two_cards_is_taken_the_other_stays_free(held: list[Claim]) -> None:
    assert isinstance(gpu(held, 1, study="other"), Claim)
    assert isinstance(gpu(held, 0, 1, share=2), Unavailable)
    assert isinstance(gpu(held, 0, study="third"), Claim)


def test_a_card_that_the_driver_does_not_show_is_unavailable(held: list[Claim]) -> None:
    found = gpu(held, 7)
    assert isinstance(found, Unavailable)
    assert "does not show card 7" in found.reason


def test_cpu_slots_are_handed_out_once_across_studies(held: list[Claim]) -> None:
    names = []
    for study in ("one", "two"):
        claim = claim_cpu(study=study, count=2, worker=0)
        assert isinstance(claim, Claim)
        held.append(claim)
        names.append(claim.name)
    assert names == ["cpu-0", "cpu-1"]
    none_left = claim_cpu(study="three", count=2, worker=0)
    assert isinstance(none_left, Unavailable)
    assert "all 2 CPU slots are taken" in none_left.reason
    held.pop().release()
    again = claim_cpu(study="three", count=2, worker=0)
    assert isinstance(again, Claim)
    held.append(again)
    assert again.name == "cpu-1"
