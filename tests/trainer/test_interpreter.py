"""From a trial's command to the Python that it runs in, or to nothing."""

import os
from pathlib import Path

import pytest

from trainer.environment import Environment
from trainer.interpreter import interpreter_of


def environment(tmp_path: Path, *argv: str, is_uv: bool) -> Environment:
    folder, elsewhere = tmp_path / "venv" / "bin", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir(parents=True)
    programs = ("python", "python3", "python3.11", "torchrun", "conda")
    for file in (*(folder / name for name in programs), elsewhere / "python3.12"):
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    variables = {"PATH": os.pathsep.join(map(os.fspath, (folder, elsewhere)))}
    if is_uv:
        variables["UV_PROJECT_ENVIRONMENT"] = os.fspath(tmp_path / "venv")
    argv = tuple(word.replace("HERE", os.fspath(tmp_path)) for word in argv)
    return Environment(argv=argv, variables=variables)


@pytest.mark.parametrize("is_uv", [False, True])
@pytest.mark.parametrize(
    "command",
    ["python train.py", "python3 -u train.py", "torchrun train.py", "HERE/venv/bin/python3.11 x"],
)
def test_the_environments_own_programs_run_in_its_python(
    tmp_path: Path, command: str, is_uv: bool
) -> None:
    made = environment(tmp_path, *command.split(), is_uv=is_uv)
    assert interpreter_of(made) == tmp_path / "venv" / "bin" / "python"


@pytest.mark.parametrize("command", ["uv run train.py", "uv run --no-sync -q python train.py"])
def test_uv_runs_in_the_environment_that_was_made_for_it(tmp_path: Path, command: str) -> None:
    made = environment(tmp_path, *command.split(), is_uv=True)
    assert interpreter_of(made) == tmp_path / "venv" / "bin" / "python"


@pytest.mark.parametrize(
    ("command", "is_uv"),
    [
        ("uv run train.py", False),
        ("uv run --with einops train.py", True),
        ("uv run --python 3.12 train.py", True),
        ("uv run", True),
        ("uvx train", True),
        ("./run.sh", False),
        ("bash run.sh", True),
        ("conda run -n torch python train.py", False),
        ("env python train.py", False),
        ("python3.12 train.py", False),
        ("HERE/elsewhere/python3.12 train.py", False),
        ("nothing", False),
    ],
)
def test_of_other_commands_nothing_is_claimed(tmp_path: Path, command: str, is_uv: bool) -> None:
    assert interpreter_of(environment(tmp_path, *command.split(), is_uv=is_uv)) is None
