"""Which repository a folder belongs to, as git itself links worktrees."""

import shutil
import subprocess
from pathlib import Path

import pytest

from infra.local.checkout import config_file, main_checkout, run_folder, study_named
from infra.local.home import StudyHome


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    local = ("-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", folder, *who, *local, *arguments], check=True, capture_output=True)


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """A repository with one commit."""
    main = tmp_path / "main"
    main.mkdir()
    git(main, "init", "--quiet")
    (main / "train.py").touch()
    git(main, "add", ".")
    git(main, "commit", "--quiet", "--message=Baseline")
    return main


def test_a_linked_worktree_belongs_to_the_checkout_that_it_was_made_from(main: Path) -> None:
    for linked in (main.parent / "li nked ü", main / ".worktrees" / "inside"):
        git(main, "worktree", "add", "--quiet", "--detach", str(linked))
        assert main_checkout(linked) == main
    assert main_checkout(main) == main


def test_worktrees_of_a_bare_repository_belong_to_it(main: Path) -> None:
    for name in ("bare.git", "around/.git"):
        bare = main.parent / name
        git(main, "clone", "--quiet", "--bare", ".", str(bare))
        linked = main.parent / f"of {bare.parent.name}"
        git(bare, "worktree", "add", "--quiet", "--detach", str(linked))
        assert main_checkout(linked) in {bare, bare.parent}
        git(main_checkout(linked), "for-each-ref")


def test_what_is_no_linked_worktree_belongs_to_itself(main: Path) -> None:
    outer = main.parent / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    git(outer, "submodule", "--quiet", "add", str(main), "inner")
    inner = outer / "inner"
    linked = main.parent / "of a submodule"
    git(inner, "worktree", "add", "--quiet", "--detach", str(linked))
    broken = main.parent / "broken"
    broken.mkdir()
    (broken / ".git").write_bytes(b"gitdir: \xff\0nowhere\n")
    for folder in (inner, linked, broken, main.parent, main.parent / "nowhere"):
        assert main_checkout(folder) == folder


def test_a_linked_worktree_may_have_a_configuration_of_its_own(main: Path) -> None:
    linked = main.parent / "linked"
    git(main, "worktree", "add", "--quiet", "--detach", str(linked))
    own, shared = linked / "incumbent.toml", main / "incumbent.toml"
    assert config_file(linked) == own
    shared.touch()
    assert config_file(linked) == shared
    own.touch()
    assert config_file(linked) == own
    assert config_file(main) == shared


def test_a_study_that_was_begun_in_a_linked_worktree_stays_its_own(
    main: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path / "state"))
    linked = main.parent / "linked"
    git(main, "worktree", "add", "--quiet", "--detach", str(linked))
    shared = StudyHome.locate(main, "mar5")
    assert StudyHome.of(linked, "mar5") == StudyHome.of(main, "mar5") == shared
    early = StudyHome.locate(linked, "mar5")
    early.create()
    assert StudyHome.of(linked, "mar5") == early
    shared.create()
    assert StudyHome.of(linked, "mar5") == shared


def named(study: str) -> str:
    return f'[study]\nname = "{study}"\n'


def test_a_study_is_run_from_where_its_configuration_is(main: Path, tmp_path: Path) -> None:
    linked, second, gone = (tmp_path / name for name in ("linked", "second", "gone"))
    for folder in (linked, second, gone):
        git(main, "worktree", "add", "--quiet", "--detach", str(folder))
    shutil.rmtree(gone)
    assert run_folder("mar5", main, tmp_path) == main
    (linked / "incumbent.toml").write_text(named("april"))
    (second / "incumbent.toml").write_text(named("mar5"))
    for path in (tmp_path, main, linked, second, tmp_path / "nowhere"):
        assert run_folder("mar5", main, path) == second
    (main / "incumbent.toml").write_text(named("mar5"))
    (second / "deep").mkdir()
    assert run_folder("mar5", main, second / "deep") == second
    for path in (tmp_path, main, linked):
        assert run_folder("mar5", main, path) == main
        assert run_folder("april", main, path) == linked
    (second / "incumbent.toml").unlink()
    assert run_folder("mar5", main, second) == second, "which has that of the main checkout"


def test_a_configuration_with_a_mistake_is_that_of_whoever_stands_beside_it(main: Path) -> None:
    linked = main.parent / "linked"
    git(main, "worktree", "add", "--quiet", "--detach", str(linked))
    (main / "incumbent.toml").write_text(named("mar5"))
    (linked / "incumbent.toml").write_text("[study\n")
    assert run_folder("mar5", main, linked) == linked
    assert run_folder("mar5", main, main.parent) == main


def test_a_study_of_a_bare_repository_is_run_from_a_worktree(main: Path) -> None:
    for name in ("bare.git", "around/.git"):
        bare = main.parent / name
        git(main, "clone", "--quiet", "--bare", ".", str(bare))
        linked = main.parent / f"of {bare.parent.name}"
        git(bare, "worktree", "add", "--quiet", "--detach", str(linked))
        (linked / "incumbent.toml").write_text(named("mar5"))
        assert run_folder("mar5", main_checkout(linked), main) == linked


@pytest.mark.parametrize("text", ["", "study = 1", "[study]\nname = 1", "[study", "\0"])
def test_a_configuration_that_cannot_be_read_names_no_study(tmp_path: Path, text: str) -> None:
    assert study_named(tmp_path / "incumbent.toml") == ""
    (tmp_path / "incumbent.toml").write_text(text)
    assert study_named(tmp_path / "incumbent.toml") == ""
