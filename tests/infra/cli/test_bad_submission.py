"""Submissions that cannot be candidates, and names of what is not there."""

import pytest

from infra.local.study import opened
from tests.infra.researchers import PATCH, refusals, researcher, user
from tests.infra.user import CONFIG, FAILURE, PROGRAM, TRAIN, USAGE, User

__all__ = ["refusals", "researcher", "user"]  # fixtures


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ("", "the patch is refused: the patch is empty"),
        ("print('hello')\n", "the patch is not a unified diff"),
        (PATCH.replace("train.py", "prepare.py"), "prepare.py: is not editable"),
        (PATCH.replace("b/train.py", "b/../train.py"), "two sides name different files"),
        (PATCH.replace("/train.py", "/../train.py"), "../train.py: is not a plain path"),
        (PATCH.replace("@@ -1,3", "@@ -1,9"), "the patch is damaged"),
        (f"{PATCH}\0", "the patch is binary"),
        (
            "diff --git a/train.py b/train.py\nindex 1..2 100644\nGIT binary patch\nliteral 1\nA\n",
            "train.py: is binary",
        ),
        (PATCH.replace("-LR = 0.1", "-LR = 7.7"), "the patch does not apply to"),
    ],
)
def test_a_patch_that_cannot_be_a_candidate(refusals: User, patch: str, words: str) -> None:
    assert words in refusals.refused(USAGE, "submit", "--patch", "-", stdin=patch)


def test_a_patch_whose_lines_are_not_utf8_is_refused_with_the_line(refusals: User) -> None:
    path = refusals.folder.parent / "latin.patch"
    path.write_bytes(PATCH.replace("LR = 0.2", "LR = 0.2  # caf\xe9").encode("latin-1"))
    said = refusals.refused(USAGE, "submit", "--patch", str(path))
    assert "the patch is refused: line 5 is not UTF-8 text" in said
    path.write_bytes(b"caf\xe9\n")
    assert "not a unified diff" in refusals.refused(USAGE, "submit", "--patch", str(path))


@pytest.mark.parametrize("start", ["", "diff --git a/train.py b/train.py\n"])
def test_a_mail_whose_header_alone_is_not_utf8_is_taken(user: User, start: str) -> None:
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    header = b"From: Andr\xe9 <a@example.org>\nSubject: [PATCH] Try\n\n---\n train.py | 2 +-\n\n"
    (user.folder / "mail.patch").write_bytes(header + start.encode() + PATCH.encode())
    assert "patch of train.py" in user.done("submit", "--patch", "mail.patch")
    with opened(user.home) as study:
        (submission,) = study.state().submissions
    assert submission.patch == start + PATCH


@pytest.mark.parametrize(
    ("message", "hypothesis"),
    [("caf\udce9 au lait", "caf  au lait"), ("\udce9", "LR 0.1 -> 0.3"), ("\x1b[2Ja\tb", "a   b")],
)
def test_a_message_is_what_prints_of_it(user: User, message: str, hypothesis: str) -> None:
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3", "-m", message)
    with opened(user.home) as study:
        assert [one.hypothesis for one in study.state().submissions] == [hypothesis]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", 'LR="caf\udce9"'], 'LR="caf\\udce9" is not UTF-8 text'),
        (["--grid", 'LR="\udce9",2'], 'LR="\\udce9",2 is not UTF-8 text'),
        (["--branch", "id\udce9e"], "id\\udce9e is not UTF-8 text"),
        ([], "say exactly one of --patch, --branch, --set and --grid"),
        (["--set", "LR=1", "--grid", "DEPTH=1,2"], "say exactly one of"),
        (["--patch", "nowhere.patch"], "cannot read nowhere.patch: No such file"),
        (["--branch", "nowhere"], "there is no branch nowhere in "),
        (["--set", "LRR=1"], "no constant LRR; did you mean LR?"),
        (["--set", "DEPTH=deep"], "DEPTH"),
        (["--set", "LR"], "'LR' is not of the form NAME=VALUE"),
        (["--set", "LR=0.1"], "LR is 0.1"),
        (["--grid", "LR=1,,2"], "an empty or a repeated value"),
    ],
)
def test_a_submission_that_cannot_be_meant(
    refusals: User, arguments: list[str], words: str
) -> None:
    assert words in refusals.refused(USAGE, "submit", *arguments)


def test_only_a_change_that_does_not_fit_is_to_be_rebased(refusals: User) -> None:
    stale = PATCH.replace("-LR = 0.1", "-LR = 7.7")
    said = refusals.refused(USAGE, "submit", "--patch", "-", stdin=stale)
    assert "rebase it onto incumbent/mar5" in said
    assert "rebase" not in refusals.refused(USAGE, "submit", "--branch", "nowhere")
    assert "rebase" not in refusals.refused(USAGE, "submit", "--branch", "main")  # changes nothing


def test_a_submission_to_a_study_that_does_not_run_says_what_is_next(user: User) -> None:
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    done = user.run(PROGRAM, "submit", "--set", "LR=0.3")
    assert "the study does not run: the next `incumbent run` takes it up" in done.stderr
    assert "1 submitted, 0 ready" in user.done("status")


def test_a_train_py_that_is_not_python(user: User) -> None:
    user.commit({"train.py": "LR = 0.1\nDEPTH = = 2\n"})
    done = user.run(PROGRAM, "init")
    assert done.returncode == FAILURE
    assert "train.py is not valid Python" in done.stdout
    user.write({"incumbent.toml": CONFIG})
    assert "train.py, line 2: invalid syntax" in user.refused(USAGE, "submit", "--set", "LR=0.3")


@pytest.mark.parametrize("command", ["status", "watch", "stop", "logs e1"])
def test_a_study_that_does_not_exist(researcher: User, command: str) -> None:
    said = researcher.refused(USAGE, *command.split())
    assert "there is no study mar5 yet: `incumbent run` starts it" in said


@pytest.mark.parametrize(
    "command", ["show e7", "diff e7", "logs e7", "cancel e7", "retry e7", "revert e7", "show ../e0"]
)
def test_an_experiment_that_does_not_exist(refusals: User, command: str) -> None:
    verb, name = command.split()
    said = refusals.refused(USAGE, verb, name)
    assert name in said
    assert "`incumbent log`" in said


def test_another_study_than_there_is(refusals: User) -> None:
    assert "no study mar6" in refusals.refused(USAGE, "status", "--study", "mar6")
    assert "does not run" in refusals.refused(USAGE, "watch")


def test_a_branch_is_handed_in_as_it_is(user: User) -> None:
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.git("checkout", "--quiet", "-b", "idea")
    user.commit({"train.py": TRAIN.replace("0.1", "0.3")})
    tip = user.git("rev-parse", "idea").strip()
    user.git("checkout", "--quiet", "-")
    user.done("submit", "--branch", "idea")
    with opened(user.home) as study:
        assert [(one.branch, one.tip) for one in study.state().submissions] == [("idea", tip)]
