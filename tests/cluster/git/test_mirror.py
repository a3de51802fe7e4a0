"""The mirror, into repositories that are in use: nothing of the person's may move."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.git.mirror import Mirror

BRANCH = "refs/heads/incumbent/mar5"


def refs(repository, pattern: str = "refs/incumbent") -> dict[str, str]:
    lines = repository.git("for-each-ref", "--format=%(refname) %(objectname)", pattern)
    return dict(line.split() for line in lines.splitlines())


def start(study) -> str:
    """Give the study a branch with one promotion, and two experiments; return its head."""
    first, second = study.candidate("LR = 3\n"), study.candidate("LR = 4\n")
    study.keep("e1", first.commit)
    study.keep("e2", second.commit)
    return study.promote(first)


def test_experiments_and_the_branch_arrive(study) -> None:
    head = start(study)
    state = Mirror(study.repository, study.source.path).sync()
    assert (state.mirrored, state.message) == (2, "")
    assert refs(study.source) == refs(study)
    assert refs(study.source, BRANCH) == {BRANCH: head}
    assert study.source.git("show", "incumbent/mar5:train.py") == "LR = 3"
    assert study.source.git("fsck", "--strict") == ""


def test_a_busy_checkout_stays_as_it_was_to_the_byte(study) -> None:
    source = study.source
    source.write({"train.py": "stashed\n"})
    source.git("stash")
    source.write({"train.py": "LR = 1\nunstaged\n", "prepare.py": "staged\n", "new.txt": "x"})
    source.git("add", "prepare.py")
    state_before = source.git("status", "--porcelain"), source.git("stash", "list")
    before = source.fingerprint()
    mirror = Mirror(study.repository, source.path)
    start(study)
    assert mirror.sync().message == ""
    assert source.fingerprint() == before
    assert (source.git("status", "--porcelain"), source.git("stash", "list")) == state_before


def test_no_other_ref_and_no_fetch_head_appears(study) -> None:
    start(study)
    study.source.git("tag", "v1")
    before = set(refs(study.source, "refs"))
    Mirror(study.repository, study.source.path).sync()
    new = set(refs(study.source, "refs")) - before
    assert new == {BRANCH, "refs/incumbent/mar5/e1", "refs/incumbent/mar5/e2"}
    assert not (study.source.path / ".git" / "FETCH_HEAD").exists()


def test_an_annotated_tag_arrives_and_is_never_made_anew(study) -> None:
    head = start(study)
    mirror = Mirror(study.repository, study.source.path)
    mirror.sync()
    study.repository.tag("final-1", head, "test loss 0.3\n")
    assert mirror.sync().mirrored == 1
    tags = refs(study.source, "refs/tags")
    study.repository.tag("final-1", head, "test loss 0.2\n")
    Mirror(study.repository, study.source.path).sync()
    assert refs(study.source, "refs/tags") == tags == refs(study, "refs/tags")
    name = "incumbent/mar5/final-1"
    assert study.source.git("tag", "-l", "--format=%(objecttype) %(contents)", name).split() == [
        *("tag", "test", "loss", "0.3")
    ]
    assert study.source.git("rev-parse", f"{name}^{{commit}}") == head
    assert study.source.git("fsck", "--strict") == ""


def test_a_tag_that_another_process_has_brought_meanwhile_is_no_trouble(study) -> None:
    head = start(study)
    ours = Mirror(study.repository, study.source.path)
    assert not ours.sync().message
    study.repository.tag("final-1", head, "test loss 0.3\n")
    assert Mirror(study.repository, study.source.path).sync().mirrored == 1

    told = ours.sync()

    assert (told.message, told.mirrored) == ("", 0)
    assert refs(study.source, "refs/tags") == refs(study, "refs/tags")


def test_only_what_is_new_is_brought_and_a_quiet_round_writes_nothing(study) -> None:
    mirror = Mirror(study.repository, study.source.path)
    head = start(study)
    assert mirror.sync().mirrored == 2
    assert mirror.sync().mirrored == 0
    assert Mirror(study.repository, study.source.path).sync().mirrored == 0
    newer = study.candidate("LR = 5\n", base=head)
    study.keep("e3", newer.commit)
    objects = count_objects(study.source)
    assert mirror.sync().mirrored == 1
    assert count_objects(study.source) == objects + 3  # a commit, a tree, a file
    assert refs(study.source) == refs(study)


def count_objects(repository) -> int:
    return int(repository.git("count-objects").split()[0])


def test_the_branch_follows_promotions_forward(study) -> None:
    mirror = Mirror(study.repository, study.source.path)
    head = start(study)
    mirror.sync()
    second = study.candidate("LR = 9\n", base=head)
    head = study.promote(second, head, experiment="e3")
    assert mirror.sync().message == ""
    assert refs(study.source, BRANCH) == {BRANCH: head}
    assert study.source.git("log", "--format=%s", "incumbent/mar5").splitlines() == [
        "LR 1 -> 3",
        "LR 1 -> 3",
        "Baseline",
    ]


def test_a_stale_merge_candidate_arrives_with_both_parents(make_study) -> None:
    text = "".join(f"line {number}\n" for number in range(30))
    study = make_study({"train.py": text})
    mirror = Mirror(study.repository, study.source.path)
    first = study.candidate(text.replace("line 3\n", "A\n"))
    stale = study.candidate(text.replace("line 20\n", "B\n"))
    head = study.promote(first)
    study.keep("e1", first.commit)
    mirror.sync()
    merged = study.merge(head, stale.commit)
    study.keep("e3", merged.commit)
    mirror.sync()
    shown = study.source.git("show", "refs/incumbent/mar5/e3:train.py")
    assert "A\n" in shown
    assert "B\n" in shown
    assert study.source.git("fsck", "--strict") == ""


def test_a_ref_that_changed_in_the_study_is_changed_in_the_mirror(study) -> None:
    mirror = Mirror(study.repository, study.source.path)
    start(study)
    mirror.sync()
    again = study.candidate("LR = 44\n")
    study.keep("e2", again.commit)
    assert mirror.sync().mirrored == 2, "it, and what it named before"
    assert refs(study.source) == refs(study)


def test_refs_that_a_person_deleted_come_back_with_the_next_start(study) -> None:
    mirror = Mirror(study.repository, study.source.path)
    start(study)
    mirror.sync()
    study.source.git("update-ref", "-d", "refs/incumbent/mar5/e1")
    study.source.git("prune", "--expire=now")
    study.keep("e3", study.candidate("LR = 6\n").commit)
    assert mirror.sync().mirrored == 1
    assert Mirror(study.repository, study.source.path).sync().mirrored == 1
    assert refs(study.source) == refs(study)
    assert study.source.git("fsck", "--strict") == ""


def test_a_ref_that_names_what_the_study_never_had_is_left_alone(study) -> None:
    start(study)
    earlier = study.source.commit({"train.py": "LR = 8\n"}, "Of an earlier study")
    study.source.git("update-ref", "refs/incumbent/mar5/e1", earlier)
    mirror = Mirror(study.repository, study.source.path)
    state = mirror.sync()
    assert state.mirrored == 1
    assert f"refs/incumbent/mar5/e1 in {study.source.path} names what" in state.message
    assert mirror.sync(has_news=False).message == state.message
    assert refs(study.source) == {**refs(study), "refs/incumbent/mar5/e1": earlier}


def test_what_a_study_brought_is_taken_back_and_no_more(study) -> None:
    start(study)
    mirror = Mirror(study.repository, study.source.path)
    mirror.sync()
    own = study.source.commit({"train.py": "LR = 8\n"}, "Somebody's own")
    study.source.git("update-ref", "refs/incumbent/mar5/e2", own)
    study.source.git("update-ref", "refs/incumbent/april/e1", own)
    mirror.withdraw()
    assert refs(study.source) == {
        "refs/incumbent/april/e1": own,
        "refs/incumbent/mar5/e2": own,
    }


def test_hundreds_of_refs_come_as_packs_in_batches(study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.git.mirror._BATCH", 250)
    monkeypatch.setattr("cluster.git.mirror._PACK_EVERY", 200)
    base = study.candidate("LR = 3\n").commit
    for number in range(60):
        study.keep(f"e{number}", study.candidate(f"LR = {number}.25\n").commit)
    lines = "".join(f"create refs/incumbent/mar5/e{n} {base}\n" for n in range(60, 300))
    study.git("update-ref", "--stdin", stdin=lines)
    state = Mirror(study.repository, study.source.path).sync()
    assert (state.mirrored, state.message) == (300, "")
    assert refs(study.source) == refs(study)
    assert list((study.source.path / ".git" / "objects" / "pack").glob("*.pack"))
    assert study.source.git("fsck", "--strict") == ""


# The branch is in use


def test_a_branch_checked_out_waits_and_says_what_to_do(study) -> None:
    mirror = Mirror(study.repository, study.source.path)
    old = start(study)
    mirror.sync()
    study.source.git("checkout", "--quiet", "incumbent/mar5")
    newer = study.candidate("LR = 5\n", base=old)
    study.keep("e3", newer.commit)
    new = study.promote(newer, old, experiment="e3")
    before = study.source.fingerprint()
    state = mirror.sync()
    assert state.mirrored == 1
    assert f"incumbent/mar5 is checked out in {study.source.path}" in state.message
    assert "git switch --detach" in state.message
    assert "\n" not in state.message
    assert refs(study.source, BRANCH) == {BRANCH: old}
    assert study.source.fingerprint() == before
    assert mirror.sync().message == state.message
    study.source.git("switch", "--quiet", "--detach")
    assert mirror.sync().message == ""
    assert refs(study.source, BRANCH) == {BRANCH: new}


def test_a_branch_checked_out_in_a_linked_worktree_waits(study, tmp_path: Path) -> None:
    mirror = Mirror(study.repository, study.source.path)
    old = start(study)
    mirror.sync()
    linked = tmp_path / "linked é tree"
    study.source.git("worktree", "add", "--quiet", str(linked), "incumbent/mar5")
    study.promote(study.candidate("LR = 5\n", base=old), old, experiment="e3")
    assert f"is checked out in {linked}," in mirror.sync().message
    assert refs(study.source, BRANCH) == {BRANCH: old}


def test_a_persons_own_commit_on_the_branch_is_never_overwritten(study) -> None:
    mirror = Mirror(study.repository, study.source.path)
    old = start(study)
    mirror.sync()
    source = study.source
    source.git("checkout", "--quiet", "incumbent/mar5")
    own = source.commit({"train.py": "mine\n"}, "My own idea")
    source.git("checkout", "--quiet", "main")
    new = study.promote(study.candidate("LR = 5\n", base=old), old, experiment="e3")
    state = mirror.sync()
    assert "has commits that are not the study's" in state.message
    assert "git branch -m incumbent/mar5" in state.message
    assert refs(source, BRANCH) == {BRANCH: own}
    source.git("branch", "--quiet", "-m", "incumbent/mar5", "mine")
    assert mirror.sync().message == ""
    assert refs(source, BRANCH) == {BRANCH: new}
    assert source.git("rev-parse", "mine") == own


def test_a_foreign_branch_of_that_name_is_left_alone(study) -> None:
    study.source.git("checkout", "--quiet", "--orphan", "incumbent/mar5")
    own = study.source.commit({"other.txt": "x\n"}, "Unrelated")
    study.source.git("checkout", "--quiet", "main")
    start(study)
    state = Mirror(study.repository, study.source.path).sync()
    assert state.mirrored == 2
    assert "has commits that are not the study's" in state.message
    assert refs(study.source, BRANCH) == {BRANCH: own}


def test_a_branch_called_incumbent_is_reported(study) -> None:
    study.source.git("branch", "incumbent")
    start(study)
    state = Mirror(study.repository, study.source.path).sync()
    assert state.mirrored == 2
    assert "'refs/heads/incumbent' exists" in state.message


# Hostile or awkward targets


def test_no_hook_of_the_target_runs(study, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hooks = study.source.path / ".git" / "hooks"
    custom = study.source.path / "custom-hooks"
    custom.mkdir()
    names = (
        "reference-transaction",
        "pre-push",
        "post-update",
        "update",
        "pre-receive",
        "post-merge",
    )
    for folder in (hooks, custom):
        for hook in names:
            (folder / hook).write_text(f"#!/bin/sh\ntouch '{ran}'\nexit 1\n")
            (folder / hook).chmod(0o755)
    study.source.git("config", "core.hooksPath", str(custom))
    start(study)
    assert Mirror(study.repository, study.source.path).sync().message == ""
    assert not ran.exists()
    plain = ["git", "update-ref", "refs/heads/x", "HEAD"]
    assert subprocess.run(plain, cwd=study.source.path, check=False).returncode != 0
    assert ran.exists(), "plain git would have run it"


def test_settings_of_the_target_for_pushes_and_fetches_do_not_matter(study) -> None:
    settings = {
        "receive.denyCurrentBranch": "updateInstead",
        "receive.denyNonFastForwards": "true",
        "fetch.prune": "true",
        "transfer.hideRefs": "refs/incumbent",
        "transfer.fsckObjects": "true",
        "core.logAllRefUpdates": "always",
        "extensions.worktreeConfig": "true",
        "user.useConfigOnly": "true",
    }
    for key, value in settings.items():
        study.source.git("config", key, value)
    start(study)
    assert Mirror(study.repository, study.source.path).sync().message == ""
    assert refs(study.source) == refs(study)


def test_a_linked_worktree_on_an_odd_path_can_be_the_target(
    make_repository, make_study, tmp_path: Path
) -> None:
    main = make_repository(name="Über: mein repo")
    main.git("worktree", "add", "--quiet", "../Zweig 木", "-b", "other")
    linked = type(main)(tmp_path / "Zweig 木")
    study = make_study(source=linked)
    head = start(study)
    assert Mirror(study.repository, linked.path).sync().message == ""
    assert refs(main, BRANCH) == {BRANCH: head}


def test_a_shallow_clone_can_be_the_target(make_repository, make_study) -> None:
    origin = make_repository()
    origin.commit({"train.py": "LR = 2\n"})
    shallow = make_repository({}, name="shallow")
    shallow.git("fetch", "--quiet", "--depth=1", f"file://{origin.path}", "main")
    shallow.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    study = make_study(source=shallow)
    head = start(study)
    assert Mirror(study.repository, shallow.path).sync().message == ""
    assert shallow.git("rev-list", "--count", head) == "2"
    assert shallow.git("fsck", "--no-dangling") == ""


def test_a_target_that_vanished_is_reported_and_found_again(study, tmp_path: Path) -> None:
    mirror = Mirror(study.repository, study.source.path)
    start(study)
    away = tmp_path / "away"
    study.source.path.rename(away)
    state = mirror.sync()
    assert state.mirrored == 0
    assert str(study.source.path) in state.message
    assert "No such file or directory" in state.message
    away.rename(study.source.path)
    assert mirror.sync().mirrored == 2


def test_a_target_that_is_no_repository_any_more_is_reported(study) -> None:
    start(study)
    shutil.rmtree(study.source.path / ".git")
    assert "not a git repository" in Mirror(study.repository, study.source.path).sync().message


def test_a_target_that_cannot_be_written_is_reported_and_caught_up_later(study) -> None:
    start(study)
    # Root may write anywhere: a file in the place of the folder stops it as well.
    blocker = study.source.path / ".git" / "refs" / "incumbent"
    blocker.write_text("")
    mirror = Mirror(study.repository, study.source.path)
    assert str(study.source.path) in mirror.sync().message
    blocker.unlink()
    assert (mirror.sync().message, refs(study.source)) == ("", refs(study))


def test_a_locked_ref_is_reported_and_nothing_is_half_done(study) -> None:
    start(study)
    folder = study.source.path / ".git" / "refs" / "incumbent" / "mar5"
    folder.mkdir(parents=True)
    (folder / "e2.lock").touch()
    mirror = Mirror(study.repository, study.source.path)
    assert "e2.lock" in mirror.sync().message
    assert refs(study.source) == {}
    (folder / "e2.lock").unlink()
    assert mirror.sync().mirrored == 2
