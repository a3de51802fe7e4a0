"""Which device a slot is, and when it takes no trials."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer import slots
from trainer.gpu import Gpu
from trainer.slots import Claim, Unavailable, claim_cpu, claim_gpus, with_user


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
        strangers: float = 0, worker: int = 0,
        wanted: str = "") -> Claim | Unavailable:  # fmt: skip
    found = claim_gpus(
        study=study,
        share=share,
        indexes=indexes,
        worker=worker,
        gpus=FakeGpus(strangers),
        busy_mb=2000,
        wanted=wanted,
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


@pytest.mark.parametrize(
    ("wanted", "share"),
    [("", 1.0), ("RTX 4090", 1.0), ("rtx 40", 0.5), ("4090", 2.0), ("RTX 4090 x0.5", 0.5)],
)
def test_a_card_of_the_model_or_class_that_is_asked_for_takes_trials(
    held: list[Claim], wanted: str, share: float
) -> None:
    indexes = (0, 1) if share > 1 else (0,)
    assert isinstance(gpu(held, *indexes, share=share, wanted=wanted), Claim)


@pytest.mark.parametrize("wanted", ["H200", "RTX 4090 x0.5", "RTX 4090 Ti"])
def test_any_other_card_says_why_it_takes_none_and_keeps_no_lock(
    held: list[Claim], wanted: str
) -> None:
    found = gpu(held, 0, wanted=wanted)
    assert isinstance(found, Unavailable)
    assert (found.device, found.reason) == ("RTX 4090", f"[trial] device asks for {wanted}")
    assert isinstance(gpu(held, 0, study="other"), Claim)


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


def with_users(held: list[Claim], *studies: str) -> list[int | None]:
    """The users of one CPU slot for each of `studies`."""
    for study in studies:
        claim = claim_cpu(study=study, count=9, worker=0)
        assert isinstance(claim, Claim)
        assert claim.uid is None
        found = with_user(claim, study)
        assert isinstance(found, Claim)
        assert found.name == claim.name
        held.append(found)
    return [claim.uid for claim in held]


def test_each_slot_has_a_user_of_its_own_across_studies(held: list[Claim]) -> None:
    assert with_users(held, "one", "one", "two") == [65529, 65528, 65527]


def test_a_user_that_was_given_back_serves_again(held: list[Claim]) -> None:
    with_users(held, "one", "two")
    held.pop(0).release()
    assert with_users(held, "three") == [65528, 65529]


@pytest.mark.parametrize("find", ["pwd.getpwuid", "grp.getgrgid"])
def test_a_user_or_group_that_the_host_knows_is_passed_over(
    find: str, held: list[Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_a_service(number: int) -> object:
        if number in {65529, 65527}:
            return object()
        raise KeyError(number)

    monkeypatch.setattr(find, of_a_service)
    assert with_users(held, "one", "two") == [65528, 65526]


def test_without_a_user_the_device_is_given_back(
    held: list[Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "TRIAL_UIDS", range(65529, 65528, -1))
    with_users(held, "one")
    claim = claim_cpu(study="two", count=9, worker=0)
    assert isinstance(claim, Claim)
    found = with_user(claim, "two")
    assert isinstance(found, Unavailable)
    assert (found.name, found.device) == ("cpu-1", "cpu")
    assert found.reason == "all users for trials, 65529 to 65529, are taken"
    again = claim_cpu(study="three", count=9, worker=0)
    assert isinstance(again, Claim)
    held.append(again)
    assert again.name == "cpu-1"
