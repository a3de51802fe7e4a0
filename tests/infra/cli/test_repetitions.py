"""A submission that repeats an experiment is refused at once, with what became of that."""

import pytest

from cluster.state.state import StudyState
from infra.local.study import opened
from tests.infra.study_of_git import GrownStudy, user
from tests.infra.user import USAGE, User

__all__ = ["user"]  # a fixture

WORSE, DIVERGES = 0.9, 7.0


@pytest.fixture
def grown(user: User) -> User:
    """Somebody whose study discarded LR = 0.9 on e0, and saw LR = 7 crash."""
    study = GrownStudy(user)
    study.more(1, lr=WORSE)
    study.more(1, lr=DIVERGES)
    return user


def state_of(user: User) -> StudyState:
    with opened(user.home) as study:
        return study.state()


def of(user: User, lr: float) -> str:
    """Return the experiment that tried it."""
    wanted = f"LR to {lr:.4f}"
    return next(e.id for e in state_of(user).experiments.values() if e.hypothesis == wanted)


def test_of_what_was_measured_the_score_is_told(grown: User) -> None:
    before, twin = state_of(grown), of(grown, WORSE)
    said = grown.refused(USAGE, "submit", "--set", f"LR={WORSE:.4f}")
    assert f"the same tree as {twin}, which is discarded with loss 1.8: " in said
    assert f"`incumbent retry {twin}` runs it again" in said
    assert state_of(grown) == before  # nothing was handed in


def test_of_what_crashed_it_is_told_how_to_run_it_again(grown: User) -> None:
    twin = of(grown, DIVERGES)
    said = grown.refused(USAGE, "submit", "--set", f"LR={DIVERGES:.4f}")
    assert f"the same tree as {twin}, which is crashed: `incumbent retry {twin}`" in said


def test_a_patch_with_the_same_effect_is_a_repetition_too(grown: User) -> None:
    patch = grown.done("diff", of(grown, WORSE))
    said = grown.refused(USAGE, "submit", "--patch", "-", stdin=patch)
    assert f"the same tree as {of(grown, WORSE)}" in said


def test_the_points_of_a_grid_are_left_to_the_study(grown: User) -> None:
    before = len(state_of(grown).submissions)
    grown.done("submit", "--grid", f"LR={WORSE:.4f},0.8")
    assert len(state_of(grown).submissions) == before + 2
