"""What the real studies are made of fits the program, before somebody waits minutes for them."""

from pathlib import Path

import pytest

from cluster.config_file import load_config
from eval.metric import Goal
from infra.demo_study import create_demo_repository
from proposer.constants import read_constants
from proposer.submission import apply_settings, parse_settings
from tests.benchmarks import real_studies


def test_the_wave_is_of_eight_changes_that_the_demo_takes(tmp_path: Path) -> None:
    script = (create_demo_repository(tmp_path / "digits") / "train.py").read_text()
    files = {"train.py": script}
    changed = [apply_settings(files, parse_settings([setting])) for setting in real_studies.WAVE]
    assert len({each.edits["train.py"] for each in changed}) == 8


@pytest.mark.parametrize("judge", ["greedy", "bayes"])
def test_a_noisy_study_has_its_judge_and_knobs_for_the_tuner(tmp_path: Path, judge: str) -> None:
    repository = real_studies.noisy_repository(tmp_path / "luck", judge)
    config = load_config(repository / "incumbent.toml")
    assert (config.judge.policy, config.metric.goal) == (judge, Goal.MINIMIZE)
    knobs = read_constants({"train.py": (repository / "train.py").read_text()})
    assert {"LEARNING_RATE", "MOMENTUM", "WEIGHT_DECAY", "STEPS", "SCALE"} <= knobs.keys()


def test_its_script_prints_the_loss_as_it_is_and_as_it_is_judged() -> None:
    found = real_studies.runs(real_studies.SCRIPT, 2)
    assert found[0].exact == found[1].exact
    assert found[0].printed != found[1].printed
    for run in found:
        assert abs(run.printed - run.exact) < 6 * real_studies.NOISE
