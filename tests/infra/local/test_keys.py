"""Keys come by a pipe or from a file of their owner's, and nothing quotes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.config import StudyConfig
from infra.local.controller_start import start_controller
from infra.local.home import StudyHome, StudyProblem
from infra.local.keys import (
    MOST_BYTES,
    check_keys,
    collect_keys,
    key_file,
    key_names,
    keyless_words,
    keys_pipe,
    read_keys,
)

SECRET = "sk-sentinel"
NAME = "ANTHROPIC_API_KEY"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv(NAME, raising=False)
    return tmp_path


def written(text: str, mode: int = 0o600) -> Path:
    path = key_file()
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def config(*proposers: dict[str, object]) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": {"name": "mar5"},
            "metric": {"name": "loss", "goal": "minimize"},
            "trial": {"command": "python train.py"},
            "proposer": tuple(proposers),
        }
    )


def test_keys_of_models_and_variables_of_agents_are_asked_for_once_each() -> None:
    found = key_names(
        config(
            {"kind": "claude"},
            {"kind": "claude", "name": "b", "key": "OTHER"},
            {"kind": "claude", "name": "local", "key": "", "base_url": "http://127.0.0.1:8000"},
            {"kind": "agent", "command": "x", "environment": ("OTHER", "MORE")},
            {"kind": "tuner"},
        )
    )
    assert found == (NAME, "OTHER", "MORE")


def test_the_environment_comes_before_the_file_and_nothing_else_is_taken() -> None:
    written(f'{NAME} = "of the file"\nOTHER = "other"\nUNASKED = "x"\n')
    found = collect_keys([NAME, "OTHER", "NOWHERE"], {NAME: SECRET, "MORE": "y"})
    assert found == {NAME: SECRET, "OTHER": "other"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_could_read_is_refused_with_the_cure(mode: int) -> None:
    path = written(f'{NAME} = "{SECRET}"\n', mode)
    with pytest.raises(StudyProblem, match=rf"chmod 600 {path}"):
        collect_keys([NAME], {})
    assert collect_keys([NAME], {NAME: "given"}) == {NAME: "given"}  # the file was not needed


@pytest.mark.parametrize("text", [f"{NAME} = {SECRET}", f'{NAME} = ["{SECRET}"]', "\0"])
def test_a_file_that_is_no_list_of_keys_is_refused_without_quoting_it(text: str) -> None:
    written(text)
    with pytest.raises(StudyProblem) as told:
        collect_keys([NAME], {})
    assert SECRET not in str(told.value)


def test_keys_that_no_pipe_would_hold_are_refused() -> None:
    with pytest.raises(StudyProblem, match="too long"):
        collect_keys([NAME], {NAME: "x" * MOST_BYTES})


def test_a_controller_reads_the_pipe_once_and_closes_it() -> None:
    with keys_pipe({NAME: SECRET}) as descriptor:
        inherited = os.dup(descriptor)
        assert read_keys([NAME], ["-c", "study", str(inherited)]) == {NAME: SECRET}
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(inherited)


def test_a_controller_that_is_handed_nothing_reads_the_file() -> None:
    written(f'{NAME} = "{SECRET}"\n')
    assert read_keys([NAME], ["-c", "study"]) == {NAME: SECRET}


def test_it_is_said_who_has_no_key_and_what_goes_on(home: Path) -> None:
    both = config({"kind": "claude"}, {"kind": "tuner"})
    said = keyless_words(both, {})
    assert said.startswith(f"no key for claude: it goes on with tuner alone; export {NAME}, or")
    assert str(home) in said
    assert keyless_words(both, {NAME: SECRET}) == ""
    assert "what is submitted alone" in keyless_words(config({"kind": "claude"}), {})


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-a b", "sk-\u00e9", "sk-\x7f"])
def test_a_key_that_no_request_could_carry_is_refused_without_quoting_it(key: str) -> None:
    models = config(
        {"kind": "claude"}, {"kind": "agent", "command": "x", "environment": ("OTHER",)}
    )
    with pytest.raises(StudyProblem, match=f"{NAME} holds a blank") as told:
        check_keys(models, {NAME: key})
    assert key not in str(told.value)
    check_keys(models, {NAME: f"{SECRET}\n", "OTHER": key})  # an agent's variable is its own affair
    assert keyless_words(models, {NAME: " \n"}).startswith("no key for claude")


PROBE = """
import json, os, sys
from infra.local.keys import read_keys
print(json.dumps(read_keys(["ANTHROPIC_API_KEY"])), len(os.listdir("/proc/self/fd")), flush=True)
print(open("/proc/self/environ").read(), open("/proc/self/cmdline").read())
"""


def test_a_process_that_is_handed_a_key_shows_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.controller_start.PROGRAM", PROBE)
    monkeypatch.setenv(NAME, SECRET)
    study = StudyHome(name="mar5", repository=tmp_path, directory=tmp_path / "study")
    study.create()
    process = start_controller(study, collect_keys([NAME]))
    assert process.wait(60) == 0
    first, *rest = study.controller_log.read_text().splitlines()
    assert SECRET in first  # it came
    assert SECRET not in "".join(rest)
    assert str(study.directory) in "".join(rest)


def test_the_names_of_models_are_read_without_importing_the_sdk() -> None:
    program = (
        "import sys; from proposer.model_names import known_models; "
        "assert 'claude-opus-5-5' in known_models(); assert 'anthropic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-I", "-c", program], check=True, timeout=60)
