"""What an interpreter needs is asked of it, and shown at every place where links lead to it."""

import os
import sys
import venv
from pathlib import Path

import pytest

from trainer.environment import EnvironmentFailed
from trainer.sandbox.python_paths import Hidden, needed

BASE = Path(sys.base_prefix)


@pytest.fixture
def hidden(tmp_path: Path) -> Hidden:
    return Hidden(home=tmp_path / "home", studies=tmp_path / "home" / "state" / "study")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    venv.create(tmp_path / "home" / "project" / ".venv", symlinks=True)
    return tmp_path / "home" / "project" / ".venv"


def shown(argv: tuple[str, ...], folder: Path, hidden: Hidden, **more: str) -> dict[str, str]:
    variables = {"PATH": os.fspath(folder), "HOME": os.fspath(hidden.home), **more}
    return {bind.place: bind.source for bind in needed(argv, variables, hidden)}


def is_seen(path: Path, places: dict[str, str]) -> bool:
    return any(path.is_relative_to(place) for place in [*places, "/usr"])


def test_a_virtual_environment_comes_with_the_python_it_is_made_of(
    environment: Path, hidden: Hidden
) -> None:
    places = shown(("python", "train.py"), environment / "bin", hidden)
    assert os.fspath(environment) in places
    assert is_seen(BASE, places)
    assert is_seen((environment / "bin" / "python").resolve(), places)
    assert not is_seen(hidden.home / "project", places)


def test_every_link_on_the_way_to_an_interpreter_can_be_followed(
    environment: Path, hidden: Hidden, tmp_path: Path
) -> None:
    really = (environment / "bin" / "python").resolve()
    links = tmp_path / "home" / "bin"
    links.mkdir()
    (links / "python3.99").symlink_to(really)
    python = environment / "bin" / "python"
    python.unlink()
    python.symlink_to(links / "python3.99")
    places = shown(("python",), environment / "bin", hidden)
    assert places[os.fspath(links / "python3.99")] == os.fspath(really)
    assert not is_seen(links / "other", places)


def test_a_program_is_shown_alone(environment: Path, hidden: Hidden, tmp_path: Path) -> None:
    tools = tmp_path / "home" / "tools"
    tools.mkdir()
    (tools / "uv").write_text("#!/bin/sh\n")
    (tools / "uv").chmod(0o755)
    path = f"{environment / 'bin'}{os.pathsep}{tools}"
    places = shown(("uv", "run", "train.py"), Path(path), hidden)
    assert os.fspath(tools / "uv") in places
    assert not is_seen(tools / "secret", places)


def test_libraries_that_a_variable_names_are_shown_if_they_are_not_the_home(
    environment: Path, hidden: Hidden, tmp_path: Path
) -> None:
    libraries = tmp_path / "cuda" / "lib64"
    libraries.mkdir(parents=True)
    named = os.pathsep.join([str(libraries), str(hidden.home), "/", "relative", ""])
    places = shown(("python",), environment / "bin", hidden, LD_LIBRARY_PATH=named)
    assert os.fspath(libraries) in places
    assert not {"/", os.fspath(hidden.home)} & set(places)


def test_the_source_of_incumbent_itself_is_not_shown(hidden: Hidden) -> None:
    root = Path(__file__).parents[3]
    places = shown(("python",), Path(sys.executable).parent, hidden)
    assert is_seen(Path(sys.prefix), places)
    assert not is_seen(root / "trainer", places)


@pytest.mark.parametrize("what", ["your whole home", "Incumbent's own studies", "this whole"])
def test_a_python_that_lies_among_what_is_hidden_is_refused(what: str, tmp_path: Path) -> None:
    home = BASE if what == "your whole home" else tmp_path / "home"
    studies = BASE / "studies" if what == "Incumbent's own studies" else tmp_path / "studies"
    hidden = Hidden(home=home, studies=studies)
    if what == "this whole":
        assert hidden.problem_with(Path("/")) == "this whole machine"
        return
    with pytest.raises(EnvironmentFailed, match=f"would be shown {what}") as caught:
        needed(("python",), {"PATH": os.fspath(Path(sys.executable).parent)}, hidden)
    assert "incumbent run --sandbox none" in str(caught.value)


def test_an_interpreter_that_is_broken_is_named(tmp_path: Path, hidden: Hidden) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(EnvironmentFailed, match=str(broken)):
        needed(("python",), {"PATH": os.fspath(tmp_path)}, hidden)


def test_a_command_without_python_needs_its_program_alone(tmp_path: Path, hidden: Hidden) -> None:
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    assert list(shown(("run",), tmp_path, hidden)) == [os.fspath(tmp_path / "run")]
    assert shown(("./run",), tmp_path, hidden) == {}
