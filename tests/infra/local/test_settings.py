"""What a study gets unless told."""

import os

import pytest

from infra.local.settings import default_cpu_slots


@pytest.mark.parametrize(("cores", "slots"), [(None, 2), (1, 2), (2, 2), (5, 2), (16, 8)])
def test_a_study_has_half_the_cores_as_slots_and_at_least_two(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, slots: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert default_cpu_slots() == slots
