"""Short forms of `make chaos`: one machine on which most parts die, and one that has a node."""

from pathlib import Path

import pytest

from tests.chaos.campaign import run_seed
from tests.chaos.machines import obstacle

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines"),
]


def test_a_study_outlives_the_faults_of_a_seed(tmp_path: Path) -> None:
    report = run_seed(1, outputs=tmp_path / "outputs", experiments=50)
    assert not report.problems, f"{report.problems}\n{report.losses}\n{report.logs}"
    assert report.judged >= 50
    assert len({fault.part for fault in report.faults}) >= 7


def test_a_study_with_a_node_outlives_a_power_cut_of_its_head(tmp_path: Path) -> None:
    report = run_seed(9, outputs=tmp_path / "outputs", experiments=18, nodes=1)
    assert not report.problems, f"{report.problems}\n{report.losses}\n{report.logs}"
    assert report.judged >= 18
    assert [(fault.part, fault.machine) for fault in report.faults][:1] == [("node", "head")]
