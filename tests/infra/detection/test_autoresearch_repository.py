"""The fixture prints what karpathy/autoresearch prints, so that other tests may rely on it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.metric import Goal, Metric, MetricReader
from tests.infra.autoresearch_repository import create_autoresearch_repository

SUMMARY = (
    "val_bpb:          training_seconds: total_seconds:    peak_vram_mb:     mfu_percent:      "
    "total_tokens_M:   num_steps:        num_params_M:     depth:            "
)


def run(repository: Path, script: str, home: Path) -> tuple[int, str]:
    """Return the exit code and all output, carriage returns included."""
    done = subprocess.run(
        (sys.executable, "-B", script),
        cwd=repository,
        env={"HOME": str(home), "PATH": os.defpath},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = create_autoresearch_repository(tmp_path_factory.mktemp("home") / "autoresearch")
    status, output = run(repository, "prepare.py", repository.parent)
    assert status == 0, output
    return repository


def test_a_run_prints_the_summary_and_progress_of_autoresearch(repository: Path) -> None:
    status, output = run(repository, "train.py", repository.parent)
    assert status == 0, output
    head, _, summary = output.partition("\n---\n")
    assert "".join(line[:18] for line in summary.splitlines()) == SUMMARY
    last = head.split("\r")[-1]
    assert re.match(r"step \d{5} \(100\.0%\) \| loss: \d\.\d+ \|.*\| remaining: 0s +$", last)
    assert "\n" not in head.partition("\r")[2].rstrip("\n")
    reader = MetricReader(Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)"))
    for line in summary.splitlines():
        reader.feed(line)
    assert 1.0 < float(reader.text or "nan") < 5.0
    assert reader.summary["depth"] == 2


def test_a_loss_that_is_no_number_fails(repository: Path, tmp_path: Path) -> None:
    broken = create_autoresearch_repository(tmp_path / "broken")
    text = (broken / "train.py").read_text()
    (broken / "train.py").write_text(text.replace("INIT_SCALE = 0.1", 'INIT_SCALE = float("nan")'))
    status, output = run(broken, "train.py", home=repository.parent)  # where the corpus is
    assert status == 1
    assert "FAIL" in output
    assert "val_bpb" not in output


def test_the_log_is_not_ignored_but_the_results_are(repository: Path) -> None:
    (repository / "run.log").touch()
    (repository / "results.tsv").touch()
    status = subprocess.run(
        ("git", "status", "--porcelain"), cwd=repository, capture_output=True, text=True, check=True
    )
    assert status.stdout == "?? run.log\n"
