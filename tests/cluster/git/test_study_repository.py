"""The study's repository: creation, reading, edits and refs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.git.code_outcomes import Candidate, Rejected
from cluster.git.source_repository import SourceProblem, SourceRepository
from cluster.git.study_repository import NoRepository, StudyRepository
from trainer.git_command import GitCommand, GitError
from trainer.trial import CommitId, ExperimentId

EDITABLE = ("train.py",)
E1 = ExperimentId("e1")


def reason(outcome: object) -> str:
    assert isinstance(outcome, Rejected), outcome
    assert "\n" not in outcome.reason
    return outcome.reason


# Creation


def test_the_base_comes_over_with_its_history_and_the_source_stays_as_it_was(
    make_repository, make_study
) -> None:
    source = make_repository()
    source.commit({"train.py": "LR = 2\n"}, "Second")
    source.write({"train.py": "dirty\n", "untracked.txt": "x"})
    before = source.fingerprint()
    study = make_study(source=source)
    assert study.git("log", "--format=%s", study.base) == "Second\nBaseline"
    assert study.git("show", f"{study.base}:train.py") == "LR = 2"
    assert study.git("fsck", "--strict") == ""
    assert source.fingerprint() == before


def test_creating_again_keeps_what_is_there_and_opening_finds_it(study) -> None:
    candidate = study.candidate("LR = 5\n")
    study.repository.keep_ref(E1, candidate.commit)
    path = study.repository.path
    again = StudyRepository.create(path, study="mar5", source=study.source.path, base="HEAD")
    assert again.resolve("refs/incumbent/mar5/e1") == candidate.commit
    assert StudyRepository.open(path, study="mar5").resolve(study.base) == study.base


def test_a_creation_that_was_killed_half_way_is_completed(
    make_repository, make_study, tmp_path: Path
) -> None:
    source = make_repository()
    path = tmp_path / "study.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(path)], check=True)
    # The commit object alone arrived, its tree did not.
    commit = source.git("rev-parse", "HEAD")
    place = f"objects/{commit[:2]}/{commit[2:]}"
    (path / place).parent.mkdir()
    shutil.copy(source.path / ".git" / place, path / place)
    study = make_study(source=source, path=path)
    assert study.git("show", f"{study.base}:train.py") == "LR = 1\nDEPTH = 2"


def test_opening_what_was_never_created_fails(tmp_path: Path) -> None:
    with pytest.raises(NoRepository, match=r"nothing\.git is gone"):
        StudyRepository.open(tmp_path / "nothing.git", study="mar5")


def test_a_base_that_is_no_branch_tip_can_be_chosen(make_repository, tmp_path: Path) -> None:
    source = make_repository()
    first = source.git("rev-parse", "HEAD")
    source.git("tag", "start")
    source.commit({"train.py": "LR = 2\n"})
    repository = StudyRepository.create(
        tmp_path / "study.git", study="mar5", source=source.path, base="start"
    )
    assert repository.resolve(first) == first
    assert repository.read_files(CommitId(first), EDITABLE) == {"train.py": "LR = 1\nDEPTH = 2\n"}


def test_a_base_that_does_not_exist_is_named(make_repository, tmp_path: Path) -> None:
    with pytest.raises(SourceProblem, match="no commit called 'nope'"):
        StudyRepository.create(
            tmp_path / "study.git", study="mar5", source=make_repository().path, base="nope"
        )


def test_a_shallow_clone_serves_as_a_source(make_repository, make_study) -> None:
    origin = make_repository()
    for number in range(3):
        origin.commit({"train.py": f"LR = {number}\n"})
    shallow = make_repository({}, name="shallow")
    shallow.git("fetch", "--quiet", "--depth=1", f"file://{origin.path}", "main")
    shallow.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    study = make_study(source=shallow)
    assert study.git("rev-list", "--count", study.base) == "1"
    assert study.candidate("LR = 9\n").lines == 1
    assert study.git("fsck", "--no-dangling") == ""


def test_a_linked_worktree_on_an_odd_path_serves_as_a_source(
    make_repository, make_study, tmp_path: Path
) -> None:
    main = make_repository(name="Prüfung: mit Leerzeichen 研究 $(x) 'q'")
    main.git("worktree", "add", "--quiet", "../linked tree é", "-b", "other")
    linked = type(main)(tmp_path / "linked tree é")
    linked.commit({"train.py": "LR = 7\n"}, "On the other branch")
    study = make_study(source=linked, path=tmp_path / "état du système" / "mar5.git")
    assert study.git("log", "-1", "--format=%s", study.base) == "On the other branch"
    assert study.candidate("LR = 8\n").changed == ("train.py",)


def test_a_partial_clone_is_refused_with_the_cure(
    make_repository, make_study, tmp_path: Path
) -> None:
    origin = make_repository()
    origin.git("config", "uploadpack.allowFilter", "true")
    origin.commit({"train.py": "LR = 2\n"})
    clone = type(origin)(tmp_path / "clone")
    url = f"file://{origin.path}"
    origin.git("clone", "--quiet", "--filter=blob:none", url, str(clone.path))
    shutil.rmtree(origin.path)
    with pytest.raises(SourceProblem, match=r"partial clone.*git fetch --refetch"):
        make_study(source=clone)


def test_a_partial_clone_does_not_fetch_by_a_program_that_its_configuration_names(
    make_repository, make_study, tmp_path: Path
) -> None:
    origin = make_repository()
    origin.git("config", "uploadpack.allowFilter", "true")
    origin.commit({"train.py": "LR = 2\n"})
    clone = type(origin)(tmp_path / "clone")
    origin.git("clone", "--quiet", "--filter=blob:none", f"file://{origin.path}", str(clone.path))
    ran = tmp_path / "ran"
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\nexec git-upload-pack \"$@\"\n")
    program.chmod(0o755)
    clone.git("config", "remote.origin.uploadpack", str(program))
    with pytest.raises(SourceProblem, match=r"partial clone.*git fetch --refetch"):
        make_study(source=clone)
    source = SourceRepository.find(clone.path)
    with pytest.raises(GitError):
        source.read_text(source.resolve("HEAD~1"), "train.py")
    assert not ran.exists()
    clone.git("cat-file", "-p", "HEAD~1:train.py")
    assert ran.exists(), "plain git would have run it"


def test_no_hook_or_filter_of_the_source_runs(make_repository, make_study, tmp_path: Path) -> None:
    source = make_repository(
        {"train.py": "LR = 1\n", ".gitattributes": "* filter=evil diff=evil\n"}
    )
    ran = tmp_path / "ran"
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\ncat\n")
    program.chmod(0o755)
    for hook in ("reference-transaction", "post-checkout", "pre-auto-gc", "post-update"):
        shutil.copy(program, source.path / ".git" / "hooks" / hook)
    keys = ("filter.evil.clean", "filter.evil.smudge", "diff.evil.textconv", "diff.evil.command")
    for key in (*keys, "core.fsmonitor", "uploadpack.packObjectsHook"):
        source.git("config", key, str(program))
    ran.unlink(missing_ok=True)
    study = make_study(source=source)
    candidate = study.candidate("LR = 2\n")
    study.repository.diff(study.base, candidate.commit)
    assert not ran.exists()


def test_stale_locks_are_dropped_when_opened_and_fresh_ones_respected(study) -> None:
    refs = study.repository.path / "refs" / "incumbent" / "mar5"
    refs.mkdir(parents=True)
    stale, fresh = refs / "e1.lock", refs / "e2.lock"
    for lock in (stale, fresh, study.repository.path / "packed-refs.lock"):
        lock.touch()
    for lock in (stale, study.repository.path / "packed-refs.lock"):
        os.utime(lock, (1, 1))
    repository = StudyRepository.open(study.repository.path, study="mar5")
    assert fresh.exists()
    repository.keep_ref(E1, study.base)
    assert repository.resolve("refs/incumbent/mar5/e1") == study.base


# Reading


def test_files_are_read_with_their_line_ends(make_study) -> None:
    text = "\ufeffLR = 1\r\n# é 漢\r\nlast"
    study = make_study({"train.py": text, "a b/ü.py": "x\n"})
    files = study.repository.read_files(study.base, ["train.py", "a b/ü.py"])
    assert files == {"train.py": text, "a b/ü.py": "x\n"}
    assert study.repository.count_lines(study.base, ["train.py", "a b/ü.py"]) == 4


def test_a_missing_file_is_named(study) -> None:
    with pytest.raises(KeyError, match=r"src/missing\.py"):
        study.repository.read_files(study.base, ["train.py", "src/missing.py"])


def test_a_file_that_is_no_text_is_named(make_study) -> None:
    study = make_study({"train.py": b"\xff\xfe\0"})
    with pytest.raises(ValueError, match=r"train\.py is not UTF-8"):
        study.repository.read_files(study.base, ["train.py"])


def test_an_unknown_commit_is_a_lookup_error(study) -> None:
    for call in (study.repository.resolve, study.repository.tree_of):
        with pytest.raises(LookupError, match="no such commit: 1111"):
            call(CommitId("1" * 40))
    with pytest.raises(LookupError, match="no such commit"):
        study.repository.resolve("--help")


def test_the_diff_is_a_patch_without_colour_that_git_applies(study, plain_git: Path) -> None:
    (plain_git / ".gitconfig").write_text("[color]\n ui = always\n[diff]\n noprefix = true\n")
    candidate = study.candidate("LR = 1\nDEPTH = 3\n")
    patch = study.repository.diff(study.base, candidate.commit)
    assert patch.startswith("diff --git a/train.py b/train.py\n")
    assert "-DEPTH = 2\n+DEPTH = 3\n" in patch
    applied = study.patch(patch)
    assert isinstance(applied, Candidate)
    assert applied.tree == candidate.tree


# Edits


def test_an_edit_becomes_a_commit_on_its_base(study) -> None:
    candidate = study.candidate("LR = 3\nDEPTH = 2\nNEW = 1\n")
    assert study.git("show", f"{candidate.commit}:train.py") == "LR = 3\nDEPTH = 2\nNEW = 1"
    assert study.git("show", f"{candidate.commit}:prepare.py") == "DATA = 3"
    assert study.git("rev-parse", f"{candidate.commit}^") == study.base
    assert study.git("rev-parse", f"{candidate.commit}^{{tree}}") == candidate.tree
    assert candidate.lines == 3
    assert candidate.changed == ("train.py",)
    style = "%an <%ae>, %cn <%ce>, %at %ct, %B"
    assert study.git("log", "-1", f"--format={style}", candidate.commit) == (
        "tuner <incumbent@localhost>, Incumbent <incumbent@localhost>, 1700000000 1700000000, Try"
    )
    assert study.git("fsck", "--strict", "--no-dangling") == ""


def test_the_same_edit_at_the_same_time_is_the_same_commit(study) -> None:
    assert study.candidate("LR = 3\n") == study.candidate("LR = 3\n")


def test_modes_links_odd_names_and_submodules_of_the_base_are_kept(
    make_repository, make_study
) -> None:
    source = make_repository({"train.py": "LR = 1\n", "run.sh": "true\n", "é ü.txt": "", "a": ""})
    (source.path / "run.sh").chmod(0o755)
    (source.path / "train.py").chmod(0o755)
    (source.path / "link").symlink_to("run.sh")
    (source.path / os.fsdecode(b"not-utf8-\xff")).write_text("x")
    source.git("add", "--all")
    submodule = f"160000,{'1' * 40},module"
    source.git("update-index", "--add", "--cacheinfo", submodule)
    # Sorted as git does: "a-b" before the directory "a.d", "a.d/" before "a0".
    source.commit({"a.d/x": "", "a-b": "", "a0": ""}, "All kinds")
    study = make_study(source=source)
    candidate = study.candidate("LR = 2\n")
    before = study.git("ls-tree", "-r", "-t", study.base).splitlines()
    after = study.git("ls-tree", "-r", "-t", candidate.commit).splitlines()
    assert len(before) == len(after) == 11
    differing = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [line.split()[0] for line in differing] == ["100755"]
    assert differing[0].endswith("train.py")
    assert study.git("fsck", "--strict", "--no-dangling") == ""


def test_a_file_in_a_subdirectory_is_edited_and_its_neighbours_stay(make_study) -> None:
    files = {"a/b/train.py": "1\n", "a/b/other.py": "2\n", "a/c.py": "3\n", "d.py": "4\n"}
    study = make_study(files, editable=("a/b/train.py", "d.py"))
    candidate = study.candidate({"a/b/train.py": "1\n1\n", "d.py": "5\n"})
    assert candidate.changed == ("a/b/train.py", "d.py")
    assert candidate.lines == 3
    changed = study.git("diff", "--name-only", study.base, candidate.commit)
    assert changed.splitlines() == ["a/b/train.py", "d.py"]
    assert study.git("fsck", "--strict", "--no-dangling") == ""


def test_an_editable_file_that_does_not_exist_yet_can_be_made(make_study) -> None:
    study = make_study(editable=("train.py", "new/deep/x.py"))
    candidate = study.candidate({"new/deep/x.py": "1\n"})
    assert study.git("ls-tree", "-r", candidate.commit, "new/").startswith("100644 blob")
    assert candidate.lines == 3
    assert study.git("fsck", "--strict", "--no-dangling") == ""


def test_carriage_returns_and_a_missing_last_line_end_are_kept(study) -> None:
    candidate = study.candidate("LR = 3\r\nDEPTH = 2")
    assert study.read(candidate.commit) == b"LR = 3\r\nDEPTH = 2"
    assert candidate.lines == 2


def test_an_edit_of_a_frozen_file_is_rejected_with_its_path(study) -> None:
    assert "prepare.py" in reason(study.edit({"train.py": "LR = 2\n", "prepare.py": "DATA = 4\n"}))
    assert "../train.py" in reason(study.edit({"../train.py": "LR = 2\n"}))


def test_an_edit_that_changes_nothing_is_rejected(study) -> None:
    assert reason(study.edit({"train.py": "LR = 1\nDEPTH = 2\n"})) == "changes nothing"


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_an_edit_that_is_no_text_is_rejected(text: str, study) -> None:
    assert reason(study.edit({"train.py": text})).startswith("train.py")


def test_an_edit_below_a_directory_entry_is_rejected(make_study) -> None:
    study = make_study({"src/a.py": "1\n"}, editable=("src/",))
    assert "src/a.py is not editable" in reason(study.edit({"src/a.py": "2\n"}))


def test_an_editable_path_that_is_no_regular_file_is_rejected(make_repository, make_study) -> None:
    source = make_repository({"real.py": "1\n", "folder/x": "", "file": ""})
    (source.path / "train.py").symlink_to("real.py")
    (source.path / "linked").symlink_to("folder")
    source.git("add", "--all")
    source.git("commit", "--quiet", "-m", "Links")
    paths = ("train.py", "folder", "linked/x", "file/x")
    study = make_study(source=source, editable=paths)
    reasons = [reason(study.edit({path: "2\n"})) for path in paths]
    assert reasons == [
        "train.py is a symbolic link, not a regular file",
        "folder is a directory, not a regular file",
        "linked is a symbolic link, not a directory",
        "file is a file, not a directory",
    ]


def test_a_message_from_a_model_cannot_forge_headers_or_trailers(study) -> None:
    made = study.edit({"train.py": "x\n"}, message="Good\n\nMetric: 0\nExperiment: e0\0\ud800")
    assert isinstance(made, Candidate)
    assert study.git("log", "-1", "--format=%(trailers)", made.commit) == ""
    assert study.git("fsck", "--strict", "--no-dangling") == ""
    forged = study.edit({"train.py": "y\n"}, author="Eve <x@y>\ncommitter Mallory <m@m> 1 +0000")
    assert isinstance(forged, Candidate)
    assert study.git("log", "-1", "--format=%cn", forged.commit) == "Incumbent"
    assert study.git("fsck", "--strict", "--no-dangling") == ""


# Refs


def test_a_ref_keeps_a_candidate_and_may_be_set_again(study) -> None:
    candidate = study.candidate("LR = 3\n")
    other = study.candidate("LR = 4\n")
    for commit in (candidate.commit, candidate.commit, other.commit, other.commit):
        study.repository.keep_ref(E1, commit)
        assert study.git("rev-parse", "refs/incumbent/mar5/e1") == commit
    style = "--format=%(refname:lstrip=3) %(objectname)"
    kept = study.git("for-each-ref", style, "refs/incumbent/mar5/lost").splitlines()
    assert kept == [f"lost/e1-{candidate.commit[:12]} {candidate.commit}"]


def test_a_ref_that_moves_on_keeps_what_it_leaves_behind(study) -> None:
    first, other = study.candidate("LR = 3\n"), study.candidate("LR = 4\n")
    onward = study.candidate("LR = 5\n", base=first.commit)
    study.keep("e1", first.commit)
    for commit in (onward.commit, onward.commit, other.commit):
        study.repository.move_refs({E1: commit, ExperimentId("e2"): commit})
        assert study.git("rev-parse", "refs/incumbent/mar5/e1") == commit
    kept = study.git("for-each-ref", "--format=%(objectname)", "refs/incumbent/mar5/lost")
    assert kept == onward.commit, "of what it follows nothing need be kept"
    assert study.git("for-each-ref", "refs/incumbent/mar5/e2") == "", "no ref is made"


def test_a_candidate_takes_one_process_to_keep(study, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = [study.candidate(f"LR = {number}\n").commit for number in (3, 4)]
    begun = []
    run = GitCommand.run
    monkeypatch.setattr(
        GitCommand, "run", lambda *args, **how: begun.append(1) or run(*args, **how)
    )
    for number, commit in enumerate(commits):
        study.repository.keep_ref(ExperimentId(f"e{number}"), commit)
    assert len(begun) == 2


def test_many_refs_are_packed_and_all_still_found(study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.git.experiment_refs._PACK_EVERY", 20)
    for number in range(50):
        study.keep(f"e{number}", study.base)
    folder = study.path / "refs" / "incumbent" / "mar5"
    assert len(list(folder.iterdir())) == 10
    assert len(study.git("for-each-ref", "refs/incumbent/mar5").splitlines()) == 50
    assert study.repository.resolve("refs/incumbent/mar5/e3") == study.base


def test_a_ref_that_is_packed_already_is_set_again_by_the_next_process(study) -> None:
    study.keep("e1", study.base)
    study.git("pack-refs", "--all")
    reopened = StudyRepository.open(study.path, study="mar5")
    reopened.keep_ref(E1, study.base)
    assert reopened.resolve("refs/incumbent/mar5/e1") == study.base


def test_loose_refs_of_an_earlier_process_count(study) -> None:
    lines = "".join(f"create refs/incumbent/mar5/e{n} {study.base}\n" for n in range(511))
    study.git("update-ref", "--stdin", stdin=lines)
    reopened = StudyRepository.open(study.repository.path, study="mar5")
    reopened.keep_ref(ExperimentId("e600"), study.base)
    assert len(study.git("for-each-ref", "refs/incumbent/mar5").splitlines()) == 512
    folder = study.repository.path / "refs" / "incumbent" / "mar5"
    assert not folder.is_dir() or not list(folder.iterdir())


# Beside others


def test_readers_see_whole_commits_while_many_are_written(study) -> None:
    reader = (
        "import subprocess, sys\n"
        "seen = 0\n"
        "while seen < 60:\n"
        "    out = subprocess.run(['git', 'for-each-ref', '--format=%(objectname)',"
        " 'refs/incumbent'], capture_output=True, text=True, check=True).stdout.split()\n"
        "    for commit in out[-3:]:\n"
        "        subprocess.run(['git', 'cat-file', '-p', commit + ':train.py'],"
        " check=True, stdout=subprocess.DEVNULL)\n"
        "    seen = len(out)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", reader], cwd=study.repository.path)
    for number in range(60):
        candidate = study.candidate(f"LR = {number}.5\n")
        study.repository.keep_ref(ExperimentId(f"e{number}"), candidate.commit)
    assert process.wait(timeout=60) == 0
    assert study.git("fsck", "--strict", "--no-dangling") == ""


def test_without_git_the_import_fails_with_the_cure(tmp_path: Path) -> None:
    code = (
        "from trainer.git_command import GitTooOld\n"
        "try:\n    import cluster.git.study_repository\n"
        "except GitTooOld as problem:\n    print(problem)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("git is not installed: Incumbent needs git 2.38")
