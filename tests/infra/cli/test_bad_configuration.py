"""Configurations, sandboxes and scripts that cannot be meant: one line says the cure."""

import pytest

from infra.local.controller_process import find_controller
from infra.local.study import opened
from tests.infra.researchers import researcher, studied, user
from tests.infra.user import CONFIG, FAILURE, PROGRAM, USAGE, User

__all__ = ["researcher", "studied", "user"]  # fixtures


def test_run_without_a_configuration(researcher: User) -> None:
    (researcher.folder / "incumbent.toml").unlink()
    for verb in ("run", "submit"):
        said = researcher.refused(USAGE, verb)
        assert "there is no incumbent.toml" in said
        assert "`incumbent init`" in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gpus = 0", "gpu = 0", ["[trial] gpu: unknown key", "did you mean gpus?"]),
        ("[metric]", "[metrics]", ["[metrics]: unknown section", "did you mean [metric]?"]),
        ('"minimize"', '"minimise"', ['"minimize" or "maximize"']),
        ('"mar5"', '"mar 5"', ["[study] name", "is not possible"]),
        ("gpus = 0", "gpus = 0\ntimeout_s = 1", ["timeout_s (1) must be at least budget_s"]),
        ('"python train.py"', "python train.py", ["incumbent.toml:7: is not valid TOML"]),
        ("gpus = 0", 'gpus = 0\nsandbox = "jail"', ['must be "bubblewrap" or "none"']),
        (
            "gpus = 0",
            'gpus = 0\nenvironment = "~no-one/venv"',
            ["[trial] environment: ~no-one/venv begins with a home folder that is not known"],
        ),
    ],
)
def test_a_configuration_that_is_misspelt_or_broken(
    researcher: User, old: str, new: str, words: list[str]
) -> None:
    researcher.write({"incumbent.toml": CONFIG.replace(old, new, 1)})
    said = researcher.refused(USAGE, "run")
    for word in [*words, str(researcher.folder / "incumbent.toml")]:
        assert word in said
    assert not researcher.has_study()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--sandbox", "jail"], "--sandbox jail: the choices are bubblewrap and none"),
        (["run", "--slots", "0"], "--slots"),
        (["run", "--experiments", "many"], "--experiments"),
        (["rnu"], "rnu"),
    ],
)
def test_options_that_cannot_be_meant(researcher: User, arguments: list[str], words: str) -> None:
    assert words in researcher.refused(USAGE, *arguments)
    assert not researcher.has_study()


def test_an_editable_file_that_a_study_that_was_begun_does_not_have(studied: User) -> None:
    studied.write(
        {"incumbent.toml": CONFIG.replace("[metric]", 'editable = ["modle.py"]\n[metric]')}
    )
    for verb in (["run"], ["submit", "--set", "LR=0.4"]):
        assert "there is no modle.py in commit" in studied.refused(USAGE, *verb)
    assert find_controller(studied.home) is None


def test_another_metric_for_a_study_that_was_begun(studied: User) -> None:
    studied.write({"incumbent.toml": CONFIG.replace('"loss"', '"accuracy"')})
    for verb in (["run"], ["submit", "--set", "LR=0.4"]):
        said = studied.refused(USAGE, *verb)
        assert "was begun to minimize loss" in said
        assert "give [study] name another name" in said


@pytest.mark.parametrize(("option", "value"), [("hours", "inf"), ("usd", "inf")])
def test_a_limit_that_is_no_number(studied: User, option: str, value: str) -> None:
    said = studied.refused(USAGE, "run", f"--{option}", value)
    words = f"the command line: [limits] {option}: must be a finite number, not {value}"
    assert said == f"error: {words}\n"


def test_a_machine_that_makes_no_sandbox_runs_nothing_until_told_to(researcher: User) -> None:
    # Root of a user namespace that has no other user, as whom trials could run.
    without = ("unshare", "--user", "--map-root-user", str(PROGRAM))
    done = researcher.run(*without, "run")
    assert done.returncode == FAILURE, done.stderr
    first, cure, words = done.stderr.splitlines()
    assert first.startswith("error: no sandbox can be made: Incumbent runs as root of a user name")
    assert cure.startswith("cure: run Incumbent as a plain user")
    assert words.endswith("incumbent run --sandbox none")
    assert not researcher.has_study()
    doctor = researcher.run(*without, "doctor")
    assert doctor.returncode == FAILURE
    assert "failure  sandbox" in doctor.stdout
    assert "incumbent run --sandbox none" in doctor.stdout


def refused_by_the_controller(user: User, *args: str) -> str:
    """Run a study that cannot begin; it is to end by itself, and leave nothing running."""
    said = user.refused(FAILURE, "run", *args)
    assert "failed: " in said
    assert find_controller(user.home) is None
    with opened(user.home) as study:
        assert study.state().is_failed
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trial", "words"),
    [
        ('environment = "/nowhere/venv"', ["'/nowhere/venv' is no virtual environment"]),
        ('environment = "uv"', ["pyproject.toml and uv.lock", "Run `uv lock`"]),
        ('data = ["~/nowhere"]', ["[trial] data: ~/nowhere does not exist"]),
    ],
)
def test_a_node_that_cannot_run_the_trials(researcher: User, trial: str, words: list[str]) -> None:
    researcher.write({"incumbent.toml": f"{CONFIG}{trial}\n"})
    said = refused_by_the_controller(researcher)
    for word in words:
        assert word in said


@pytest.mark.slow
def test_a_run_without_a_sandbox_says_so_in_one_line(researcher: User) -> None:
    researcher.write({"incumbent.toml": f'{CONFIG}data = ["~/nowhere"]\n'})  # an end that is near
    said = refused_by_the_controller(researcher, "--sandbox", "none")
    told = [line for line in said.splitlines() if "sandbox" in line]
    assert told == ["sandbox: none - trials run as you, with your files and network"]


@pytest.mark.slow
def test_a_train_py_that_the_tuner_cannot_read(researcher: User) -> None:
    researcher.commit({"train.py": "LR = 0.1\nDEPTH = = 2\n"})
    assert "train.py, line 2: invalid syntax" in refused_by_the_controller(researcher)
