"""An API key is with the controller, and with nothing and nobody else of a study."""

import os
import re
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.conftest import CONFIG, MakeStudy, Study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECRET = "sk-ant-sentinel-0123456789"
MODEL = """
[[proposer]]
kind = "claude"
base_url = "http://127.0.0.1:9"
[[proposer]]
kind = "tuner"
"""
"""A server that nobody runs: the key is asked for, and used in vain."""
PROCESSES = {
    "infra.processes.controller_main", "cluster.nodes.fleet", "gcs_server", "raylet",
    "ray::QueueActor", "ray::WorkerActor", "valkey-server",
}  # fmt: skip
"""Each must be found, or nothing is shown."""


def test_a_key_is_in_no_file_argument_variable_or_metric_of_a_study(make_study: MakeStudy) -> None:
    study = make_study(config=CONFIG + MODEL, variables={"ANTHROPIC_API_KEY": SECRET})
    done = study.incumbent("run", "--detach")
    assert SECRET not in done.stdout + done.stderr
    assert "no key for" not in done.stderr  # it was found, and handed on
    study.wait_for_status("e0", "kept")
    look(study, study.processes())
    served = study.metrics()
    assert SECRET not in served
    assert study.home.ray_token.read_text() not in served


def test_without_a_key_the_tuner_goes_on_alone_and_a_run_says_so_before_it_starts(
    make_study: MakeStudy,
) -> None:
    study = make_study(config=CONFIG + MODEL)
    done = study.incumbent("run", "-n", "2", "--hours", "1", "--usd", "5")
    said = done.stderr.splitlines()
    night = "expect about 6545 trials of 1s (assumed) on 2 slots, and 2 ideas judged"
    begin = said.index(night)
    assert said[begin + 1] == "models may cost $5.00 in all ([limits] usd)"
    assert re.fullmatch(
        r"no key for claude: it goes on with tuner alone; export ANTHROPIC_API_KEY, or write it to "
        r"\S+/keys\.toml \(mode 0600\), and run again",
        said[begin + 2],
    )
    state = study.state()
    assert state.finished == "2 experiments were judged"
    assert {e.proposer for e in state.experiments.values()} == {"baseline", "tuner"}


def look(study: Study, processes: dict[psutil.Process, str]) -> None:
    looked_at = []
    for process, line in processes.items():
        folder = Path(f"/proc/{process.pid}")
        with suppress(FileNotFoundError, ProcessLookupError):  # a trial, which has ended
            about = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            assert SECRET.encode() not in about, line
            looked_at.append(line)
    missing = {word for word in PROCESSES if not any(word in line for line in looked_at)}
    assert not missing, processes
    assert [path for path in files(study) if SECRET.encode() in text_of(path)] == []


def text_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # of a trial, and removed since
        return b""


def files(study: Study) -> list[Path]:
    """Return everything that the study wrote: ledger, logs, settings, code, Ray's files."""
    found = []
    for root in (study.home.directory, study.home.runtime()):
        for folder, _, names in os.walk(root):
            found += [Path(folder, name) for name in names]
    written = [path for path in found if path.is_file() and not path.is_symlink()]
    assert study.home.settings in written
    assert study.home.controller_log in written
    assert any("appendonly" in str(path) for path in written), written  # the ledger
    return written
