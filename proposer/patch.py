"""What a patch touches, and whether it may: the gate in front of `git apply`.

Pure. Knows unified diffs, git's and plain ones, and the study's editable paths. Trusts nothing in
the text. Where git is lenient (names that differ between the two sides, modes, binary deltas,
anything it guesses), this is strict: a patch passes only if both its sides say the same, so that
what was checked is what git will do.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trainer.editable import is_editable

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\([abfnrtv\"\\]|[0-3][0-7]{2})")
_CONTROLS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_DATE = re.compile(r"\s(?:\d\d)?\d\d-\d\d-\d\d")
_EPOCH = re.compile(r"\t(?:1970-01-01|1969-12-31) ")
_NOWHERE = "/dev/null"
_REGULAR = "100644"
_EXECUTABLE = "100755"
_MODES = {"120000": "a symbolic link", "160000": "a submodule", _EXECUTABLE: "an executable file"}
_REFUSED = {
    "GIT binary patch": "is binary",
    "Binary files ": "is binary",
    "old mode ": "changes its mode",
    "new mode ": "changes its mode",
    "deleted file mode ": "is deleted",
    "rename ": "is renamed",
    "copy ": "is copied",
    "similarity index ": "is renamed or copied",
    "dissimilarity index ": "is rewritten in a form that is not read here (git's -B)",
}
"""Lines of a git header that no candidate's patch may have."""


class PatchRejected(ValueError):
    """A patch or a set of edits that may not become a candidate; says which path and why."""


def check_edits(edits: Mapping[str, str], editable: Sequence[str]) -> None:
    """Accept whole new texts by path.

    Raises:
        PatchRejected: there is none, a path is not editable, or a text is no UTF-8 text.
    """
    if not edits:
        raise PatchRejected("changes no file")
    for path, text in edits.items():
        _check_path(path, editable)
        if "\0" in text:
            raise PatchRejected(f"{path}: is binary")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PatchRejected(f"{path}: is not UTF-8 text") from error


def check_patch(text: str, editable: Sequence[str]) -> tuple[str, ...]:
    """Return the paths that a unified diff touches, in its order, each once.

    The text is meant for `git apply` with its default `-p1`: the first component of every name, be
    it `a/` or anything else, is not part of the path. Lines between the files of a patch (a mail's
    header, the statistics of `git format-patch`) are ignored, as git does.

    Raises:
        PatchRejected: not a patch, empty, damaged or binary; or it touches a path outside
            `editable`, deletes, renames or copies a file, or makes anything but a regular file.
    """
    if "\0" in text:
        raise PatchRejected("the patch is binary")
    files = list(_Parser(text).files())
    if not files:
        raise PatchRejected(
            "the patch is not a unified diff" if text.strip() else "the patch is empty"
        )
    for file in files:
        _check_path(file.path, editable)
        if file.is_deleted:
            raise PatchRejected(f"{file.path}: is deleted or emptied")
    if len({file.is_bare for file in files}) > 1:
        # A first name without a slash makes git apply take all later names with -p0.
        raise PatchRejected("some names have the prefixes a/ and b/ and some have not")
    return tuple(dict.fromkeys(file.path for file in files))


def _check_path(path: str, editable: Sequence[str]) -> None:
    parts = path.split("/")
    if path.startswith("/"):
        raise PatchRejected(f"{path}: is an absolute path")
    if {"..", ".", ""} & set(parts):
        raise PatchRejected(f"{path or repr(path)}: is not a plain path inside the repository")
    if ".git" in path.lower().split("/") or not path.isprintable():
        raise PatchRejected(f"{path!r}: is a name that no candidate may use")
    if not is_editable(path, editable):
        raise PatchRejected(f"{path}: is not editable (editable: {', '.join(editable)})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file's part of a patch; both its sides name `path`."""

    path: str
    is_bare: bool
    """Its names have no slash, hence no prefix."""
    is_deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """What one side of a patch calls a file."""

    path: str
    """Empty for a side that says that there is no file."""
    is_bare: bool

    @classmethod
    def of(cls, text: str) -> "_Name":
        """Read what follows `--- ` or `+++ `: a name, quoted or not, and perhaps a time."""
        quoted = _QUOTED.match(text)
        name = _unquote(quoted[1]) if quoted else text.partition("\t")[0]
        # GNU diff dates a missing file at the epoch, and git apply believes it.
        is_missing = name == _NOWHERE or bool(_EPOCH.search(text))
        if name.startswith("/") and not is_missing:
            raise PatchRejected(f"{name}: is an absolute path")
        if _DATE.search(name):
            # Git apply cuts a date off a name, even where no tab is between them.
            raise PatchRejected(f"{name}: has a date in its name")
        is_bare = "/" not in name
        path = name if is_bare else name.partition("/")[2]
        return cls(path="" if is_missing else path, is_bare=is_bare)


def _unquote(text: str) -> str:
    """Undo git's C-style quoting of unusual bytes.

    Raises:
        PatchRejected: the bytes are no UTF-8.
    """

    def byte(found: re.Match[str]) -> str:
        code = _CONTROLS.get(found[1])
        return chr(int(found[1], 8) if code is None else code)

    try:
        # Each escape is one byte; characters that were not escaped are their UTF-8 bytes already.
        plain = text.encode().decode("latin-1")
        return _ESCAPE.sub(byte, plain).encode("latin-1").decode()
    except UnicodeError as error:
        raise PatchRejected(f"{text}: is a name that is not UTF-8") from error


class _Parser:
    """Cuts a unified diff into files, line by line; skips the content of hunks by its count."""

    def __init__(self, text: str) -> None:
        self._lines = text.removesuffix("\n").split("\n")
        self._at = 0

    def files(self) -> Iterator[_File]:
        """Yield the parts in order.

        Raises:
            PatchRejected: the text is damaged, or says what no candidate's patch may say.
        """
        while (line := self._line()) is not None:
            if line.startswith("diff --git "):
                yield self._git_file(line.removeprefix("diff --git "))
            elif self._starts_plain_file():
                yield self._named_file()
            elif line.startswith(("GIT binary patch", "Binary files ")):
                raise PatchRejected(f"the patch is binary ({line[:200]})")
            elif line.startswith("@@ -"):
                raise self._damage("a hunk that belongs to no file")
            else:
                self._at += 1

    def _line(self, ahead: int = 0) -> str | None:
        index = self._at + ahead
        return self._lines[index].removesuffix("\r") if index < len(self._lines) else None

    def _starts_plain_file(self) -> bool:
        # Git wants all three lines, too: prose may begin with dashes.
        starts = enumerate(("--- ", "+++ ", "@@ -"))
        return all((self._line(ahead) or "").startswith(start) for ahead, start in starts)

    def _damage(self, what: str) -> PatchRejected:
        return PatchRejected(f"the patch is damaged at line {self._at + 1}: {what}")

    def _git_file(self, header: str) -> _File:
        path = _header_path(header)
        is_new = False
        self._at += 1
        while (line := self._line()) is not None:
            for start, why in _REFUSED.items():
                if line.startswith(start):
                    raise PatchRejected(f"{path}: {why}")
            if not line.startswith(("index ", "new file mode ")):
                break
            is_new = is_new or line.startswith("new file mode ")
            _check_mode(path, line)
            self._at += 1
        if line is not None and line.startswith("--- "):
            file = self._named_file()
            if file.path != path:
                raise PatchRejected(f"{file.path}: its git header says {path}")
            return file
        if not is_new:
            raise PatchRejected(f"{path}: has no change")
        if line and not line.startswith(("diff --git ", "-- ")):
            raise self._damage("not a line of a git header")
        return _File(path=path, is_bare=False)

    def _named_file(self) -> _File:
        old = _Name.of((self._line() or "").removeprefix("--- "))
        line = self._line(1) or ""
        if not line.startswith("+++ "):
            raise self._damage("--- without +++")
        new = _Name.of(line.removeprefix("+++ "))
        both = [name for name in (old, new) if name.path]
        if not both or both[0] != both[-1]:
            raise PatchRejected(f"{old.path} and {new.path}: the two sides name different files")
        self._at += 2
        if not (self._line() or "").startswith("@@ -"):
            raise self._damage(f"no hunk follows the names of {both[0].path}")
        left = 0
        while (self._line() or "").startswith("@@ -"):
            left += self._hunk()
        # A plain diff of one hunk that leaves no line is a deletion to git apply.
        is_deleted = not new.path or left == 0
        return _File(path=both[0].path, is_bare=both[0].is_bare, is_deleted=is_deleted)

    def _hunk(self) -> int:
        """Skip a hunk and return how many lines it leaves, context included."""
        header = _HUNK.match(self._line() or "")
        if header is None:
            raise self._damage("not the head of a hunk")
        old, new = (1 if count is None else int(count) for count in header.groups())
        left = new
        self._at += 1
        while old > 0 or new > 0 or (self._line() or "").startswith("\\"):
            line = self._line()
            # An empty line is an empty line of context whose blank was lost.
            sign = " " if line == "" else (line or "")[:1]
            if sign not in {" ", "-", "+", "\\"}:
                raise self._damage("the hunk is shorter than its head says")
            old -= sign in {" ", "-"}
            new -= sign in {" ", "+"}
            self._at += 1
        if old or new:
            raise self._damage("the hunk is longer than its head says")
        return left


def _header_path(header: str) -> str:
    """Return the path of a `diff --git` line.

    Raises:
        PatchRejected: its two names differ, or have no prefix.
    """
    # Unquoted names may contain blanks. But both are the same, with prefixes of one length.
    half = len(header) // 2
    is_pair = header[half : half + 1] == " "
    old, new = (_Name.of(side) for side in (header[:half], header[half + 1 :] if is_pair else ""))
    if old != new or not old.path:
        raise PatchRejected(f"{header}: names two files, as a rename or a copy does")
    if old.is_bare:
        raise PatchRejected(f"{old.path}: is named without the prefixes a/ and b/")
    return old.path


def _check_mode(path: str, line: str) -> None:
    mode = line.rpartition(" ")[2]
    # An `index` line without a mode ends in two hashes; with one, the mode is the file's present.
    is_harmless = ".." in mode or mode == _REGULAR
    is_present = line.startswith("index ") and mode == _EXECUTABLE
    if not is_harmless and not is_present:
        raise PatchRejected(f"{path}: is {_MODES.get(mode, f'a file of mode {mode}')}")
