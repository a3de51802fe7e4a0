"""`incumbent final` while a final run is under way, which is of something else."""

import pytest

from cluster.config_file import load_config
from infra.local.final_process import FinalOrder, sole_final, write_order
from infra.local.study import opened
from infra.processes.launch import find_config
from tests.infra.study_of_git import GrownStudy, user
from tests.infra.user import USAGE, User
from trainer.trial import ExperimentId

__all__ = ["user"]  # a fixture


@pytest.mark.parametrize("arguments", [("--experiment", "e0"), ("--seeds", "5")])
def test_another_final_run_is_not_taken_for_what_is_asked_for(
    user: User, arguments: tuple[str, ...]
) -> None:
    with opened(user.home) as study:
        GrownStudy(user).settle(study)
    config = load_config(find_config(user.folder)[1])
    write_order(user.home, FinalOrder(experiment=ExperimentId("e1"), config=config))
    with sole_final(user.home):
        said = user.refused(USAGE, "final", "--sandbox", "none", *arguments)
    assert "a final run of e1 by 1 seeds is under way (process " in said
