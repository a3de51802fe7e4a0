"""The demo's repository: it is made whole, it runs, and it can be improved."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config_file import load_config
from eval.config import MetricConfig
from eval.metric import MetricReader
from infra.demo_study import create_demo_repository
from infra.detection.detect import detect


def git(repository: Path, *arguments: str) -> str:
    command = ("git", "-C", str(repository), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_repository_has_one_commit_that_is_the_same_everywhere(tmp_path: Path) -> None:
    first = create_demo_repository(tmp_path / "näher ran" / "digits")
    second = create_demo_repository(tmp_path / "again")
    assert git(first, "rev-parse", "HEAD") == git(second, "rev-parse", "HEAD")
    assert git(first, "rev-list", "--count", "HEAD") == "1"
    assert git(first, "status", "--porcelain") == ""
    assert git(first, "ls-files").splitlines() == [
        ".gitignore",
        "incumbent.toml",
        "prepare.py",
        "program.md",
        "train.py",
    ]


def test_an_empty_folder_is_a_good_target(tmp_path: Path) -> None:
    assert (create_demo_repository(tmp_path) / "train.py").is_file()


@pytest.mark.parametrize("name", ["file", "folder"])
def test_nothing_that_is_there_already_is_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.py").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{name} exists already; the demo needs a new"):
        create_demo_repository(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["train.py"]


def test_its_configuration_is_what_looking_at_it_would_find(tmp_path: Path) -> None:
    repository = create_demo_repository(tmp_path / "digits")
    config = load_config(repository / "incumbent.toml")
    detected = detect(repository, has_gpu=True)
    found = {(item.section, item.key): item.value for item in detected.findings}
    assert detected.questions == ()
    assert found["study", "name"] == config.study.name
    assert found["study", "editable"] == config.study.editable
    assert found["study", "instructions"] == config.study.instructions
    assert found["metric", "name"] == config.metric.name
    assert found["metric", "goal"] == config.metric.goal
    assert found["trial", "command"] == config.trial.command
    assert found["trial", "environment"] == config.trial.environment
    assert found["trial", "budget_s"] == config.trial.budget_s
    assert found["trial", "gpus"] == config.trial.gpus


IMPROVED = """
import train
train.main()
train.HIDDEN = 64
train.main()
"""


def start(repository: Path, *arguments: str, budget_s: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        (sys.executable, "-B", *arguments),
        cwd=repository,
        env={"PATH": os.defpath, "INCUMBENT_SEED": "7", "INCUMBENT_BUDGET_S": budget_s},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def summaries(process: subprocess.Popen[bytes]) -> Iterator[dict[str, float]]:
    output = process.communicate()[0].decode()
    assert process.returncode == 0, output
    for run in output.split("\rstep 00000 ")[1:]:
        assert re.match(r"\(0\.0%\) \| loss: \d\.\d+", run)
        reader = MetricReader(MetricConfig(name="val_loss", goal="minimize").metric())
        for line in run.partition("---\n")[2].splitlines():
            reader.feed(line)
        yield {"val_loss": float(reader.text or "nan"), **reader.summary}


@pytest.mark.slow
def test_it_trains_and_a_single_constant_makes_it_better(tmp_path: Path) -> None:
    repository = create_demo_repository(tmp_path / "digits")
    whole = start(repository, "-c", IMPROVED, budget_s="60")
    hurried = start(repository, "train.py", budget_s="0.01")
    baseline, improved = summaries(whole)
    (cut_short,) = summaries(hurried)
    assert 1.0 < baseline["val_loss"] < 1.8
    assert 0.7 < baseline["val_accuracy"] < 0.95
    assert improved["val_loss"] < 0.8 * baseline["val_loss"]
    assert baseline["num_steps"] == improved["num_steps"] == 2500
    assert 0 < cut_short["num_steps"] < 2500
    assert list(baseline) == [
        "val_loss",
        "val_accuracy",
        "training_seconds",
        "total_seconds",
        "num_steps",
        "num_params",
    ]
