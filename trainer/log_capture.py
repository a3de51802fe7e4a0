"""What is kept and understood of a trial's output, whatever it prints and however much.

Knows the capped log file, lines, terminal escapes and numbers in progress lines. Does not know
where the bytes come from. Standard library only: the supervisor imports this module in an isolated
interpreter. Output is hostile: everything here takes time linear in its length and bounded memory
(the metric's pattern alone is the user's own responsibility).

The log file holds the first MiB, a line that counts what was dropped, and the last MiB. Up to two
MiB it is a plain file that grows, so that it can be followed. From there on everything behind the
first MiB is written anew, in place, when `LogFile.flush` is called (the supervisor does so once a
second and at the end): at any time the file is a whole one, at most one such interval old.
"""

import errno
import fcntl
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress

from eval.metric import Metric, MetricReader

HEAD_BYTES = 1 << 20
TAIL_BYTES = 1 << 20
GAP = b"\n[... %d bytes dropped ...]\n"
"""What stands between the two."""
LINE_BYTES = 4096
"""What lies beyond this in one line is kept in the log but not searched for the metric."""

_SUMMARY_BYTES = 1 << 16
_TAIL_CHARACTERS = 16384
_LAST_LINE_CHARACTERS = 200
_MOST_POINTS = 16

# ECMA-48: CSI sequences (colours, cursor), OSC strings (titles, links), other escapes.
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_POINT = re.compile(
    rf"(?<![\w.])(?P<name>[A-Za-z_][\w./-]{{0,63}})(?:"
    rf"\s*[:=]\s*(?P<value>{_NUMBER})(?:%|[mun]?s|[kKMGT]i?B?)?(?=[\s|,;()\[\]/]|$)"
    rf"|\s+(?P<bare>{_NUMBER})(?=\s*(?:[|,;(\[/]|:(?!\d)|$)))"
    # Not from within a number: of thousands of digits, each would be looked at from each before it.
    rf"|(?<!\d)(?P<percent>\d+(?:\.\d+)?)\s?%"
)
_LITERAL = re.compile(r"(?:\\(?P<escaped>[^\w\s])|(?P<plain>[^\\.^$*+?{}\[\]()|]))(?![*?{])")
_WITHOUT_WIDTH_OR_CLASS = re.compile(r"\\[AbBdDsSwWZ][*+?]*|[.^$*+?]")


class LogFile:
    """The first and the last bytes of a stream, in a file; counts those in between.

    While it is open its file is locked, for `is_open_log`.

    Only construction raises OSError. Once writing has failed (ENOSPC, EDQUOT, EFBIG), `problem`
    says why; the file is left as it is, and the stream is still counted and its end remembered.
    """

    def __init__(
        self, path: str, *, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES
    ) -> None:
        """Make an empty file at `path`, in place of an earlier one; raises OSError."""
        # A trial that is not confined may have planted something for the next one's log: a link, a
        # pipe that would be waited for, a second name of a file of the user's.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o644)
        found = os.fstat(self._file)
        if stat.S_ISREG(found.st_mode):
            if found.st_nlink > 1:
                os.close(self._file)
                raise OSError(errno.EMLINK, "the log has a second name", path)
            os.ftruncate(self._file, 0)
        with suppress(OSError):  # some file systems have no locks; never wait for a stranger's
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._head = head_bytes
        self._tail = tail_bytes
        self._recent = bytearray()
        self._is_stale = False
        self.total = 0
        """Bytes that were written, kept or not."""
        self.problem: OSError | None = None

    @property
    def dropped(self) -> int:
        """How many bytes lie between head and tail."""
        return max(0, self.total - self._head - self._tail)

    def recent(self, size: int) -> bytes:
        """Return the last `size` bytes, at most as many as the tail holds."""
        return bytes(self._recent[-min(size, self._tail) :])

    def write(self, chunk: bytes) -> None:
        """Append."""
        room = max(0, self._head + self._tail - self.total)
        self.total += len(chunk)
        self._recent += chunk
        # Trimming at twice the size keeps the cost of moving memory proportional to the input.
        if len(self._recent) > 2 * self._tail:
            del self._recent[: -self._tail]
        self._is_stale = self._is_stale or len(chunk) > room
        self._put(chunk[:room])

    def flush(self) -> None:
        """Bring the file's tail up to date where bytes were dropped."""
        if not self._is_stale:
            return
        self._is_stale = False
        self._put(GAP % self.dropped + self.recent(self._tail), at=self._head)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        try:
            os.close(self._file)
        except OSError as error:  # network file systems say so late that a quota is exceeded
            self.problem = self.problem or error

    def _put(self, data: bytes, at: int | None = None) -> None:
        if self.problem is not None:
            return
        rest = memoryview(data)
        try:
            if at is not None:
                os.lseek(self._file, at, os.SEEK_SET)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self.problem = error


def is_open_log(path: str | os.PathLike[str]) -> bool:
    """Say whether a trial's output still goes to a log."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(file)
    return False


class OutputScanner:
    """Finds the metric anywhere in a stream, and summary numbers in its first part.

    Lines end in line feed or carriage return. Behind `careful_bytes`, lines that cannot hold the
    metric, by lack of a text that its pattern requires, are skipped many at a time.
    """

    def __init__(self, metric: Metric, *, careful_bytes: int = HEAD_BYTES) -> None:
        self.reader = MetricReader(metric)
        self._required = required_text(metric.pattern).encode()
        self._careful_left = careful_bytes
        self._rest = b""
        self._at_s = 0.0

    def feed(self, chunk: bytes, at_s: float = 0.0) -> None:
        """Read the lines that `chunk` completes, which came `at_s` after the start."""
        self._at_s = at_s
        is_careful = self._careful_left > 0 or not self._required
        self._careful_left -= len(chunk)
        data = (self._rest + chunk).replace(b"\r", b"\n")
        end = data.rfind(b"\n") + 1
        # A line's first LINE_BYTES are all that is ever looked at, however long it grows.
        self._rest = data[end : end + LINE_BYTES]
        lines = data[:end].split(b"\n") if is_careful else _lines_with(self._required, data, end)
        self._read(lines)

    def finish(self) -> None:
        """Read what remains as a last line."""
        self._read([self._rest])
        self._rest = b""

    def _read(self, lines: "Iterator[bytes] | list[bytes]") -> None:
        for line in lines:
            if line:
                self.reader.feed(line[:LINE_BYTES].decode("utf-8", "replace"), self._at_s)


class LogCapture:
    """Takes in a trial's output: to the log file, to the metric's reader, and for a look at it."""

    def __init__(self, path: str, metric: Metric) -> None:
        """Make the log file; raises OSError."""
        self._metric = metric
        self._scanner = OutputScanner(metric)
        self.file = LogFile(path)

    @property
    def reader(self) -> MetricReader:
        """What was found; complete after `close`."""
        return self._scanner.reader

    def feed(self, chunk: bytes, at_s: float = 0.0) -> None:
        """Take in output that came `at_s` seconds after the start."""
        self.file.write(chunk)
        self._scanner.feed(chunk, at_s)

    def close(self) -> None:
        """Finish file and reader; the summary at the output's end counts last."""
        self._scanner.finish()
        if self.file.total > HEAD_BYTES:
            end = OutputScanner(self._metric)
            end.feed(self.file.recent(_SUMMARY_BYTES))
            end.finish()
            self.reader.summary.update(end.reader.summary)
        self.file.close()

    def last_line(self) -> str:
        """Return the last line that shows something, printable and cut; it may be unfinished."""
        recent = self.file.recent(2 * LINE_BYTES).replace(b"\r", b"\n")
        for line in reversed(recent.split(b"\n")):
            text = printable(line.decode("utf-8", "replace")).strip()
            if text:
                return text[:_LAST_LINE_CHARACTERS]
        return ""

    def tail(self) -> str:
        """Return the log's end as text: see `as_shown`."""
        text = as_shown(self.file.recent(4 * _TAIL_CHARACTERS))
        return text[-_TAIL_CHARACTERS:]


def required_text(pattern: str) -> str:
    """Return a text that every match of a regular expression contains; empty if none is known.

    Looks at simple beginnings only: up to the first group, set or counted repetition, and only
    where nothing is optional. What it returns is certain, that it finds it is not.
    """
    flags = re.compile(pattern).flags
    if flags & (re.IGNORECASE | re.VERBOSE) or "|" in re.sub(r"\\.", "", pattern):
        return ""
    texts = [""]
    at = 0
    while at < len(pattern):
        if literal := _LITERAL.match(pattern, at):
            texts[-1] += literal["escaped"] or literal["plain"]
            at = literal.end()
        elif other := _WITHOUT_WIDTH_OR_CLASS.match(pattern, at):
            texts.append("")
            at = other.end()
        elif re.compile(r"[^\\\[({]").match(pattern, at):  # a literal that may be missing
            texts.append("")
            at += 1
        else:
            break
    # Undecodable bytes are replaced before matching: only ASCII is sure to look the same in bytes.
    return max(
        (text for text in texts if text.isascii() and text.isprintable()), key=len, default=""
    )


def parse_points(line: str) -> dict[str, float]:
    """Return the finite numbers that a progress line names, at most 16.

    Understands `name: 1.23`, `name=1.23`, `name 1.23 |`, `name 1.23:` and a bare percentage, called
    percent. A unit behind the number is ignored; of a name that comes twice the last counts.
    """
    points: dict[str, float] = {}
    for found in _POINT.finditer(line):
        name = found["name"] or "percent"
        value = float((found["value"] or found["bare"] or found["percent"]).replace(",", ""))
        if math.isfinite(value) and (name in points or len(points) < _MOST_POINTS):
            points[name] = value
    return points


def printable(text: str) -> str:
    """Return `text` without terminal escapes and characters that do not print; tabs are blanks."""
    if text.isprintable():
        return text  # nearly always, and much quicker
    stripped = _ESCAPE.sub("", text).replace("\t", " ")
    return "".join(character for character in stripped if character.isprintable())


def as_shown(raw: bytes) -> str:
    """Return lines as a terminal would have left them: of progress only the last state."""
    return "\n".join(_last_state(line) for line in raw.decode("utf-8", "replace").split("\n"))


def _last_state(line: str) -> str:
    states = (printable(state).rstrip() for state in reversed(line.split("\r")))
    return next((state for state in states if state), "")


def _lines_with(required: bytes, data: bytes, end: int) -> Iterator[bytes]:
    at = data.find(required, 0, end)
    while at >= 0:
        start = data.rfind(b"\n", 0, at) + 1
        stop = data.find(b"\n", at)
        yield data[start:stop]
        at = data.find(required, stop, end)
