"""The short form of `make chaos`: one seed of few experiments, in which every part dies once."""

from pathlib import Path

import pytest

from tests.chaos.campaign import run_seed
from tests.chaos.machines import obstacle

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines")
def test_a_study_outlives_the_faults_of_a_seed(tmp_path: Path) -> None:
    report = run_seed(1, outputs=tmp_path / "outputs", experiments=50)
    assert not report.problems, f"{report.problems}\n{report.losses}\n{report.logs}"
    assert report.judged >= 50
    assert len({fault.part for fault in report.faults}) >= 7
