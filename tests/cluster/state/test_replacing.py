"""Records are replaced as the standard library does it."""

import dataclasses
from dataclasses import dataclass, field

import pytest

from cluster.state.experiment import Experiment
from cluster.state.replacing import replace
from cluster.state.state import StudyState
from tests.infra.study_factory import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    first: int
    second: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived(Base):
    third: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    first: int
    second: int

    def __post_init__(self) -> None:
        raise AssertionError


def studied() -> tuple[StudyState, Experiment]:
    study = Study()
    study.baseline(1.0)
    return study.state, study.state.experiments[study.state.lineage[0]]


def test_each_field_of_the_wide_records_is_replaced_and_the_others_are_kept() -> None:
    for record in (*studied(), Base(first=1), Derived(first=1, third={"a": 1})):
        for at in dataclasses.fields(record):
            changed = replace(record, **{at.name: "new"})
            assert changed == dataclasses.replace(record, **{at.name: "new"})
            assert getattr(changed, at.name) == "new"
            assert changed != record
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed.first = 2  # type: ignore[attr-defined]


def test_several_fields_and_none() -> None:
    record = Derived(first=1, second=("a",))
    assert replace(record, first=2, third={"b": 2}) == Derived(
        first=2, second=("a",), third={"b": 2}
    )
    assert replace(record) == record
    assert replace(record) is not record


def test_a_field_that_there_is_not_and_a_record_that_would_be_checked_are_refused() -> None:
    with pytest.raises(TypeError, match="Base has no field 'third'"):
        replace(Base(first=1), third=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="__post_init__"):
        _ = replace(object.__new__(Checked), first=2)
