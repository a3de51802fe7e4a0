"""Reads a trial's log while it is written: each time what has come since the last.

Knows how `log_capture.LogFile` lays out a file, and that its end is written anew in place once the
middle is dropped: what was read is counted in bytes of the stream, not of the file. Does not know
when a trial ends. Reads as if a candidate had made the file, which one that is not confined can do.
"""

import codecs
import re
from pathlib import Path

from trainer.log_capture import GAP, HEAD_BYTES, TAIL_BYTES
from trainer.safe_read import SafeFolder

MOST_BYTES = 1 << 24
"""Far more than the supervisor keeps of a log."""

_GAP = re.compile(re.escape(GAP).replace(b"%d", rb"(\d{1,18})"))


class LogFollower:
    """One log, read from its beginning on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        """How much of the stream was read."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def news(self, *, is_last: bool = False) -> str:
        """Return the text that has come since, and a line for what of it was dropped.

        A character of which only a part is there is kept for the next time, if there is one.
        Raises Unsafe, FileNotFoundError.
        """
        with SafeFolder(self.path.parent) as folder:
            data = folder.read(self.path.name, MOST_BYTES)
            is_rewritten = len(data) >= HEAD_BYTES + TAIL_BYTES
            if is_rewritten and folder.read(self.path.name, MOST_BYTES) != data:
                return ""  # this moment, and nobody knows how much of it is of which time
        new, end = _after(data, self._at)
        if end < self._at:  # another file, or one that was begun anew
            self._decoder.reset()
            new, end = _after(data, 0)
        self._at = end
        return self._decoder.decode(new, final=is_last)


def _after(data: bytes, at: int) -> tuple[bytes, int]:
    """Return what a log's file holds of the stream from byte `at` on, and where that ends."""
    is_cut = len(data) > HEAD_BYTES + TAIL_BYTES
    gap = _GAP.match(data, HEAD_BYTES) if is_cut else None
    if gap is None:
        return data[at:], len(data)
    tail, begin = data[gap.end() :], HEAD_BYTES + int(gap[1])
    if at < begin:
        missed = GAP % (begin - max(at, HEAD_BYTES))
        return data[at:HEAD_BYTES] + missed + tail, begin + len(tail)
    return tail[at - begin :], begin + len(tail)
