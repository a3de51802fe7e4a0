"""The study's repository: what people submit, as patches and as branches."""

import re
from pathlib import Path

import pytest

from cluster.git.code_outcomes import Candidate, Rejected
from cluster.git.study_repository import StudyRepository


def reason(outcome: object) -> str:
    assert isinstance(outcome, Rejected), outcome
    assert "\n" not in outcome.reason
    return outcome.reason


# Patches

PATCH = """\
--- a/train.py
+++ b/train.py
@@ -1,2 +1,2 @@
-LR = 1
+LR = 4
 DEPTH = 2
"""
DELETION = """\
diff --git a/train.py b/train.py
deleted file mode 100644
--- a/train.py
+++ /dev/null
@@ -1,2 +0,0 @@
-LR = 1
-DEPTH = 2
"""


def test_a_patch_becomes_a_commit_with_its_author(study) -> None:
    made = study.patch(PATCH)
    assert isinstance(made, Candidate)
    assert study.git("show", f"{made.commit}:train.py") == "LR = 4\nDEPTH = 2"
    assert study.git("log", "-1", "--format=%an <%ae> %P", made.commit) == (
        f"Ada Lovelace <ada@example.org> {study.base}"
    )
    assert (made.lines, made.changed) == (2, ("train.py",))


def test_a_patch_and_an_edit_with_one_result_have_one_tree(study) -> None:
    made = study.patch(PATCH)
    assert isinstance(made, Candidate)
    assert made.tree == study.candidate("LR = 4\nDEPTH = 2\n").tree


def test_a_patch_of_a_file_with_carriage_returns_keeps_them(make_study) -> None:
    study = make_study({"train.py": "LR = 1\r\nDEPTH = 2\r\n"})
    head, body = PATCH.split("@@\n")
    made = study.patch(head + "@@\n" + body.replace("\n", "\r\n"))
    assert isinstance(made, Candidate), made
    content = study.read(made.commit)
    assert content == b"LR = 4\r\nDEPTH = 2\r\n"


def test_a_patch_made_on_an_older_base_is_merged_where_it_can_be(study) -> None:
    source = study.source
    first = source.commit({"train.py": "".join(f"line {n}\n" for n in range(20))})
    text = (source.path / "train.py").read_text()
    second = source.commit({"train.py": text.replace("line 2\n", "LINE 2\n")})
    source.git("checkout", "--quiet", first)
    source.write({"train.py": text.replace("line 4\n", "LINE 4\n")})
    patch = source.git("diff", "--full-index") + "\n"
    StudyRepository.create(study.repository.path, study="mar5", source=source.path, base=second)
    made = study.patch(patch, base=second)
    assert isinstance(made, Candidate), made
    merged = study.git("show", f"{made.commit}:train.py")
    assert "LINE 2" in merged
    assert "LINE 4" in merged


def test_a_patch_made_on_an_older_base_that_conflicts_names_the_file(study) -> None:
    older = study.candidate("LR = 4\nDEPTH = 2\n")
    newer = study.candidate("LR = 5\nDEPTH = 2\n")
    patch = study.git("diff", "--full-index", study.base, older.commit) + "\n"
    rejected = reason(study.patch(patch, base=newer.commit))
    assert rejected == f"the patch does not apply to {newer.commit[:10]}: train.py"


@pytest.mark.parametrize("names_blobs", [True, False])
def test_a_patch_that_is_in_there_already_changes_nothing(study, names_blobs: bool) -> None:
    with_it = study.candidate("LR = 4\nDEPTH = 2\n")
    patch = (
        study.git("diff", "--full-index", study.base, with_it.commit) + "\n"
        if names_blobs
        else PATCH
    )
    assert reason(study.patch(patch, base=with_it.commit)) == "changes nothing"


def test_settings_of_the_user_do_not_change_how_a_patch_applies(study, plain_git: Path) -> None:
    (plain_git / ".gitconfig").write_text("[apply]\n whitespace = fix\n[core]\n autocrlf = true\n")
    made = study.patch(PATCH.replace("+LR = 4", "+LR = 4  "))
    assert isinstance(made, Candidate), made
    assert study.read(made.commit) == b"LR = 4  \nDEPTH = 2\n"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ("", "empty"),
        ("hello\n", "unified diff"),
        (PATCH.replace("LR = 1", "LR = 9"), "does not apply to .*train.py:1"),
        (PATCH.replace("train.py", "prepare.py"), "prepare.py"),
        (PATCH.replace("train.py", "../train.py"), r"\.\./train.py"),
        ("diff --git a/train.py b/train.py\nGIT binary patch\nliteral 1\nI\n", "binary"),
        (DELETION, "train.py"),
    ],
)
def test_a_patch_that_cannot_be_taken_is_rejected_with_the_reason(
    patch: str, expected: str, study
) -> None:
    rejected = study.patch(patch)
    assert isinstance(rejected, Rejected), rejected
    assert re.search(expected, rejected.reason), rejected.reason


@pytest.mark.parametrize(
    ("added", "expected"),
    [("\udcf6", "train.py is not UTF-8 text"), ("\0", "the patch is binary")],
)
def test_a_patch_that_leaves_no_text_is_rejected(added: str, expected: str, study) -> None:
    assert reason(study.patch(PATCH.replace("LR = 4", f"LR = 4  # {added}"))) == expected


# Branches of the user


def test_a_branch_becomes_a_candidate_with_its_changes_since_the_fork(study) -> None:
    source = study.source
    source.git("checkout", "--quiet", "-b", "idea")
    source.commit({"train.py": "LR = 1\nDEPTH = 2\nA = 1\n"}, "One")
    source.commit({"train.py": "LR = 1\nDEPTH = 2\nA = 1\nB = 1\n"}, "Two")
    before = source.fingerprint()
    made = study.submit("idea")
    assert isinstance(made, Candidate), made
    assert study.git("log", "--format=%s", made.commit) == "Try\nBaseline"
    assert made.lines == 4
    assert source.fingerprint() == before


def test_a_branch_is_taken_as_it_was_when_it_was_handed_in(study) -> None:
    source = study.source
    source.git("checkout", "--quiet", "-b", "idea")
    tip = source.commit({"train.py": "LR = 1\nDEPTH = 2\nA = 1\n"}, "One")
    source.commit({"train.py": "LR = 1\nDEPTH = 2\nA = 1\nB = 1\n"}, "Two")
    source.git("checkout", "--quiet", "main")
    made = study.submit("idea", tip=tip)
    assert isinstance(made, Candidate), made
    assert made.lines == 3
    source.git("branch", "--delete", "--force", "idea")
    again = study.submit("idea", tip=tip)
    assert isinstance(again, Candidate), again
    assert again.tree == made.tree
    never = study.submit("idea", tip="0123456789" * 4)
    assert reason(never).startswith("there is no commit 0123456789, where idea was, in ")


def test_a_branch_on_an_old_base_is_brought_up_to_the_new_one(study) -> None:
    text = "".join(f"line {number}\n" for number in range(20))
    old = study.candidate(text)
    new = study.candidate(text.replace("line 1\n", "LINE 1\n"), base=old.commit)
    source = study.source
    source.git("fetch", "--quiet", str(study.repository.path), old.commit)
    source.git("checkout", "--quiet", "-b", "idea", old.commit)
    source.commit({"train.py": text.replace("line 9\n", "LINE 9\n")})
    made = study.submit("idea", base=new.commit)
    assert isinstance(made, Candidate), made
    assert study.git("rev-parse", f"{made.commit}^") == new.commit
    merged = study.git("show", f"{made.commit}:train.py")
    assert "LINE 1\n" in merged
    assert "LINE 9\n" in merged


def test_a_branch_that_touches_a_frozen_file_is_rejected_with_its_path(study) -> None:
    study.source.git("checkout", "--quiet", "-b", "idea")
    study.source.commit({"train.py": "LR = 2\n", "data/prépare.py": "x\n"})
    assert reason(study.submit("idea")) == "branch idea: data/prépare.py is not editable"


def test_a_branch_that_turns_a_file_into_a_link_or_deletes_it_is_rejected(study) -> None:
    source = study.source
    source.git("checkout", "--quiet", "-b", "link")
    (source.path / "train.py").unlink()
    (source.path / "train.py").symlink_to("/etc/passwd")
    source.git("commit", "--quiet", "-a", "-m", "Link")
    assert reason(study.submit("link")) == "branch link: train.py must stay a regular file"
    source.git("checkout", "--quiet", "-b", "gone", study.base)
    source.git("rm", "--quiet", "train.py")
    source.git("commit", "--quiet", "-m", "Gone")
    assert reason(study.submit("gone")) == "branch gone: train.py must not be deleted"


def test_a_branch_that_conflicts_names_the_file(study) -> None:
    source = study.source
    source.git("checkout", "--quiet", "-b", "idea")
    source.commit({"train.py": "LR = 7\nDEPTH = 2\n"})
    other = study.candidate("LR = 8\nDEPTH = 2\n")
    assert "conflicts" in reason(study.submit("idea", base=other.commit))
    assert reason(study.submit("idea", base=other.commit)).endswith("in train.py")


def test_a_branch_without_changes_without_history_or_without_existence_is_rejected(
    study,
) -> None:
    source = study.source
    assert reason(study.submit("main")) == "changes nothing"
    assert reason(study.submit("nope")).startswith("there is no branch nope in ")
    source.git("checkout", "--quiet", "--orphan", "island")
    source.commit({"train.py": "LR = 2\n"})
    assert "shares no history" in reason(study.submit("island"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# -*- coding: latin-1 -*-\n# Gr\xf6\xdfe\n".encode("latin-1"), "is not UTF-8 text"),
        (b"LR = 2\0\n", "is binary"),
    ],
)
def test_a_branch_whose_file_nobody_could_edit_is_rejected(
    content: bytes, expected: str, study
) -> None:
    study.source.git("checkout", "--quiet", "-b", "idea")
    study.source.commit({"train.py": content})
    assert reason(study.submit("idea")) == f"train.py {expected}"
