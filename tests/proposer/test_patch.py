"""The gate in front of `git apply`: what passes, what is refused, and whether git agrees."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proposer.patch import PatchRejected, check_edits, check_patch

EDITABLE = ("train.py", "src/", "a b.py", "ä.py", "run.sh")
BODY = "@@ -1 +1 @@\n-a = 1\n+a = 2\n"


def git(directory: Path, *arguments: str, stdin: str = "") -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(
        command, input=stdin.encode(), capture_output=True, check=True
    ).stdout.decode()


def plain(path: str, body: str = BODY) -> str:
    return f"--- a/{path}\n+++ b/{path}\n{body}"


def headed(path: str, extra: str, rest: str | None = None) -> str:
    return f"diff --git a/{path} b/{path}\n{extra}" + (plain(path) if rest is None else rest)


def refusal(text: str, editable: tuple[str, ...] = EDITABLE) -> str:
    with pytest.raises(PatchRejected) as caught:
        check_patch(text, editable)
    return str(caught.value)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "src").mkdir()
    for name in ("train.py", "src/x.py", "a b.py", "ä.py", "frozen.py", "run.sh"):
        (tmp_path / name).write_text("a = 1\nb = 2\n", encoding="utf-8")
    (tmp_path / "run.sh").chmod(0o755)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "base")
    return tmp_path


def changed(repository: Path, *names: str) -> str:
    """Return git's diff after a change of these files."""
    for name in names:
        path = repository / name
        path.write_text(path.read_text(encoding="utf-8").replace("1", "7") + "--- a\n", "utf-8")
    return git(repository, "diff")


def test_a_diff_of_git_lists_its_paths(repository: Path) -> None:
    patch = changed(repository, "train.py", "src/x.py", "a b.py", "ä.py", "run.sh")
    assert check_patch(patch, EDITABLE) == ("a b.py", "run.sh", "src/x.py", "train.py", "ä.py")


def test_a_diff_of_git_to_a_frozen_file_is_refused_by_name(repository: Path) -> None:
    patch = changed(repository, "train.py", "frozen.py")
    assert refusal(patch).startswith("frozen.py: is not editable (editable: train.py, src/")


def test_a_formatted_patch_with_its_mail_header_passes(repository: Path) -> None:
    changed(repository, "train.py")
    git(repository, "commit", "-qam", "Try 7\n\n--- with a line\n+++ that looks odd\n")
    patch = git(repository, "format-patch", "--stdout", "HEAD~1")
    assert check_patch(patch, EDITABLE) == ("train.py",)


def test_new_files_pass_where_they_are_editable(repository: Path) -> None:
    (repository / "src/new.py").write_text("x = 1\n", encoding="utf-8")
    (repository / "src/empty.py").write_text("", encoding="utf-8")
    git(repository, "add", "-A")
    patch = git(repository, "diff", "--cached")
    assert check_patch(patch, EDITABLE) == ("src/empty.py", "src/new.py")
    assert refusal(patch, ("train.py",)).startswith("src/empty.py: is not editable")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["mv", "train.py", "src/moved.py"], "as a rename or a copy does"),
        (["mv", "train.py", "outside.py"], "as a rename or a copy does"),
        (["rm", "-q", "train.py"], "train.py: is deleted"),
        (["update-index", "--chmod=+x", "train.py"], "train.py: changes its mode"),
    ],
)
def test_what_git_does_beside_changing_text_is_refused(
    repository: Path, change: list[str], complaint: str
) -> None:
    git(repository, *change)
    assert complaint in refusal(git(repository, "diff", "--cached", "-M"))


def test_a_copy_is_refused(repository: Path) -> None:
    (repository / "src/copy.py").write_text("a = 1\nb = 2\n", encoding="utf-8")
    git(repository, "add", "-A")
    patch = git(repository, "diff", "--cached", "-C", "--find-copies-harder")
    assert "as a rename or a copy does" in refusal(patch)


def test_symbolic_links_are_refused(repository: Path) -> None:
    (repository / "src/link.py").symlink_to("/etc/passwd")
    git(repository, "add", "-A")
    assert refusal(git(repository, "diff", "--cached")) == "src/link.py: is a symbolic link"


def test_submodules_are_refused(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},src/sub")
    patch = git(repository, "diff", "--cached", "--", "src/sub")
    assert refusal(patch) == "src/sub: is a submodule"


@pytest.mark.parametrize("options", [["--binary"], []])
def test_binary_patches_are_refused(repository: Path, options: list[str]) -> None:
    (repository / "src/x.py").write_bytes(b"\0\1\2")
    assert refusal(git(repository, "diff", *options)) == "src/x.py: is binary"


@pytest.mark.parametrize(
    "text",
    [
        plain("train.py"),
        "--- train.py\n+++ train.py\n" + BODY,
        "--- a/train.py\t2026-01-01 10:00:00.000000000 +0100\n"
        "+++ b/train.py\t2026-01-01 10:00:01.000000000 +0100\n" + BODY,
        "--- old/train.py\n+++ new/train.py\n" + BODY,
        plain("train.py").replace("\n", "\r\n"),
        plain("train.py", "@@ -1,2 +1,2 @@ def f():\n\n-a\n+b\n"),
        plain("train.py", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"),
        plain("train.py", BODY + "@@ -9,2 +9 @@\n c\n-d\n"),
        headed("train.py", "index 1111111..2222222 100644\n"),
        headed("train.py", "index 1111111..2222222\n"),
        "Some words.\n\n" + plain("train.py") + "\nMore words.\n",
        plain("train.py").removesuffix("\n"),
    ],
)
def test_the_usual_forms_of_a_diff_pass(text: str) -> None:
    assert check_patch(text, EDITABLE) == ("train.py",)


def test_lines_of_content_are_not_taken_for_names() -> None:
    body = "@@ -1,2 +1,2 @@\n--- a/frozen.py\n+++ b/frozen.py\n c\n"
    assert check_patch(plain("train.py", body), EDITABLE) == ("train.py",)


def test_a_path_that_is_changed_twice_is_listed_once() -> None:
    assert check_patch(plain("train.py") + plain("train.py"), EDITABLE) == ("train.py",)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('--- "a/\\303\\244.py"\n+++ "b/\\303\\244.py"\n' + BODY, "ä.py"),
        ('diff --git "a/\\303\\244.py" "b/\\303\\244.py"\nnew file mode 100644\n', "ä.py"),
        ("diff --git a/a b.py b/a b.py\nnew file mode 100644\n", "a b.py"),
        ("--- a/a b.py\t\n+++ b/a b.py\t\n" + BODY, "a b.py"),
        ('--- "a/\\164rain.py"\n+++ b/train.py\n' + BODY, "train.py"),
    ],
)
def test_quoted_and_blank_names_are_understood(text: str, path: str) -> None:
    assert check_patch(text, EDITABLE) == (path,)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the patch is empty"),
        (" \n\n", "the patch is empty"),
        ("hello\nworld\n", "the patch is not a unified diff"),
        ("*** a/train.py\n--- b/train.py\n***************\n", "the patch is not a unified diff"),
        (plain("train.py") + "\0", "the patch is binary"),
        ("Binary files a/x and b/x differ\n", "the patch is binary"),
        ("GIT binary patch\nliteral 0\n", "the patch is binary"),
        (BODY, "damaged at line 1: a hunk that belongs to no file"),
        (plain("train.py", ""), "the patch is not a unified diff"),
        (
            headed("train.py", "", plain("train.py", "")),
            "damaged at line 4: no hunk follows the names of train.py",
        ),
        (plain("train.py", "@@ -1 +1 @\n-a\n+b\n"), "damaged at line 3: not the head of a hunk"),
        (plain("train.py", "@@ -1,3 +1 @@\n-a\n+b\n"), "damaged at line 6: the hunk is shorter"),
        (plain("train.py", "@@ -1 +1 @@\n-a\n-b\n+b\n"), "damaged at line 7: the hunk is longer"),
        (plain("train.py", "@@ -1 +1 @@\n-a\nb\n"), "damaged at line 5: the hunk is shorter"),
        (headed("train.py", "oops\n"), "train.py: has no change"),
        (headed("train.py", "new file mode 100644\noops\n", ""), "not a line of a git header"),
        (headed("train.py", "", ""), "train.py: has no change"),
        (headed("train.py", "", "--- a/train.py\n"), "--- without +++"),
        (headed("train.py", "new file mode 100755\n"), "train.py: is an executable file"),
        (headed("train.py", "new file mode 100600\n"), "train.py: is a file of mode 100600"),
        (headed("train.py", "index 1111111..2222222 120000\n"), "train.py: is a symbolic link"),
        (headed("train.py", "dissimilarity index 90%\n"), "git's -B"),
        ("diff --git train.py train.py\n", "train.py: is named without the prefixes"),
        ("diff --git a/train.py b/src/x.py\n", "names two files, as a rename or a copy does"),
        ("diff --git a/train.py\n", "names two files, as a rename or a copy does"),
        (headed("src/x.py", "rename from train.py\n"), "src/x.py: is renamed"),
        (headed("src/x.py", "copy from train.py\n"), "src/x.py: is copied"),
        (headed("src/x.py", "", plain("train.py")), "train.py: its git header says src/x.py"),
        ("--- a/train.py\n+++ b/frozen.py\n" + BODY, "train.py and frozen.py: the two sides"),
        ("--- a/frozen.py\n+++ b/train.py\n" + BODY, "frozen.py and train.py: the two sides"),
        ("--- /dev/null\n+++ /dev/null\n" + BODY, "the two sides name different files"),
        ("--- a/train.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "train.py: is deleted"),
        (plain("train.py", "@@ -1 +0,0 @@\n-a\n"), "train.py: is deleted or emptied"),
        (
            "--- a/train.py\n+++ b/train.py\t1970-01-01 00:00:00.000000000 +0000\n" + BODY,
            "train.py: is deleted",
        ),
        ("--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+a\n", "new.py: is not editable"),
        (plain("../train.py"), "../train.py: is not a plain path"),
        (plain("src/../frozen.py"), "src/../frozen.py: is not a plain path"),
        (plain("src/./x.py"), "src/./x.py: is not a plain path"),
        (plain("src//x.py"), "src//x.py: is not a plain path"),
        (plain("src/"), "src/: is not a plain path"),
        (plain("/etc/passwd"), "/etc/passwd: is an absolute path"),
        ("--- /etc/passwd\n+++ /etc/passwd\n" + BODY, "/etc/passwd: is an absolute path"),
        (plain("src/.git/config"), "is a name that no candidate may use"),
        (plain("src/.GIT/config"), "is a name that no candidate may use"),
        (plain("src/a\x1b[31m.py"), "is a name that no candidate may use"),
        (plain("src/x.py 2026-01-01"), "has a date in its name"),
        ('--- "a/src/\\377.py"\n+++ "b/src/\\377.py"\n' + BODY, "is a name that is not UTF-8"),
        (plain("TRAIN.py"), "TRAIN.py: is not editable"),
        (plain("train.py.bak"), "train.py.bak: is not editable"),
        (plain("src2/x.py"), "src2/x.py: is not editable"),
        ("--- train.py\n+++ train.py\n" + BODY + plain("src/x.py"), "some have not"),
        (plain("train.py") + headed("frozen.py", ""), "frozen.py: is not editable"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, complaint: str) -> None:
    assert complaint in refusal(text)


NAMES = ["train.py", "src/x.py", "a b.py", "ä.py", "frozen.py", "../up.py", "src/x.py b/src/x.py"]
STAMPS = ["", "\t", "\t2026-01-01 00:00:00 +0000", "\t1970-01-01 00:00:00 +0000", " 2026-01-01"]
HUNKS = [BODY, "@@ -0,0 +1 @@\n+b\n", "@@ -1 +0,0 @@\n-b\n", "@@ -1,2 +1 @@\n-a\n c\n", ""]
HEADERS = ["index 1..2 100644\n", "new file mode 100644\n", "old mode 1\n", "rename from x\n", ""]


@st.composite
def parts(draw: st.DrawFn) -> str:
    """Return one file's part of a patch, often a crooked one."""
    old, new = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES))
    new = draw(st.sampled_from([old, old, old, new]))
    before, after = draw(st.sampled_from(["a/", "a/", "w/", ""])), draw(st.sampled_from(["b/", ""]))
    head = f"diff --git {before}{old} {after}{new}\n" + draw(st.sampled_from(HEADERS))
    left = draw(st.sampled_from([before + old, before + old, "/dev/null"]))
    right = draw(st.sampled_from([after + new, after + new, "/dev/null"]))
    stamps = draw(st.sampled_from(STAMPS)), draw(st.sampled_from(STAMPS))
    names = f"--- {left}{stamps[0]}\n+++ {right}{stamps[1]}\n"
    return draw(st.sampled_from([head, "", ""])) + names + draw(st.sampled_from(HUNKS))


NEW_FILE = re.compile(r" create (mode 100(644|755) |(?!mode ))")
"""All that may be told besides the lines: no link, no mode that changes, no renaming."""


@pytest.fixture(scope="module")
def empty_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("empty")
    git(directory, "init", "-q")
    return directory


@settings(deadline=None)  # the machine may be busy
@given(patch=st.lists(parts(), min_size=1, max_size=2).map("".join))
@example(patch="--- a/train.py\n+++ b/train.py\n@@ -0,0 +1 @@\n+b\n")  # creates, of no mode
def test_git_reads_every_patch_that_passes_as_we_do(empty_repository: Path, patch: str) -> None:
    try:
        paths = check_patch(patch, EDITABLE)
    except PatchRejected:
        return
    try:
        listed = git(empty_repository, "apply", "--numstat", "-z", stdin=patch)
        summary = git(empty_repository, "apply", "--summary", stdin=patch)
    except subprocess.CalledProcessError:
        return  # stricter than we are: it will not be applied
    assert {line.split("\t")[2] for line in listed.split("\0") if line} == set(paths)
    assert all(NEW_FILE.match(line) for line in summary.splitlines())


def test_edits_of_editable_files_pass() -> None:
    check_edits({"train.py": "a = 2\n", "src/new/x.py": ""}, EDITABLE)


@pytest.mark.parametrize(
    ("edits", "complaint"),
    [
        ({}, "changes no file"),
        ({"frozen.py": ""}, "frozen.py: is not editable"),
        ({"train.py": "", "../x": ""}, "../x: is not a plain path"),
        ({"/etc/passwd": ""}, "/etc/passwd: is an absolute path"),
        ({"": ""}, "is not a plain path"),
        ({"train.py": "a\0b"}, "train.py: is binary"),
        ({"train.py": "\ud800"}, "train.py: is not UTF-8 text"),
    ],
)
def test_other_edits_are_refused(edits: dict[str, str], complaint: str) -> None:
    with pytest.raises(PatchRejected) as caught:
        check_edits(edits, EDITABLE)
    assert complaint in str(caught.value)
