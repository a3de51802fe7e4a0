"""What a run's output tells of its time: when it spoke first, when it trained, how fast.

Knows lines, progress and moments. Does not know processes: it is told what arrived and when.
Standard library only: the supervisor imports this module in an isolated interpreter.

A script says nowhere "now I train". What can be known from its log is when its first byte came, and
when lines that count steps came; the time before, between and behind these are the stages. What the
log does not tell is absent, never guessed.
"""

from trainer.log_capture import parse_points, printable
from trainer.step_rate import StepCounter, StepRate

_LOOK_S = 0.05
"""How often the output is searched for steps at most: what the stages are exact to."""
_LOOK_BYTES = 4096
_LOOK_LINES = 32


class RunStages:
    """Follows one run's output. Times are in seconds, by the clock that `began_at` is of."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._counter = StepCounter()
        self._unseen = b""
        self._unseen_at = began_at
        self._look_at = began_at
        self._first_output_at: float | None = None
        self._first_step_at: float | None = None
        self._last_step_at: float | None = None

    def feed(self, chunk: bytes, now: float) -> None:
        """Take in output that arrived at `now`."""
        if not chunk:
            return
        if self._first_output_at is None:
            self._first_output_at = now
        unseen = self._unseen + chunk[-_LOOK_BYTES:]
        if len(unseen) > _LOOK_BYTES:  # begin with a whole line
            unseen = unseen[-_LOOK_BYTES:].replace(b"\r", b"\n").partition(b"\n")[2]
        self._unseen, self._unseen_at = unseen, now
        if now >= self._look_at:
            self._look()

    def close(self) -> None:
        """Take what remains for a last line."""
        self._unseen += b"\n"
        self._look()

    def rate(self) -> StepRate | None:
        """Return the steps a second, None where the log does not tell; asked after `close`."""
        return self._counter.rate()

    def seconds(self, ended_at: float) -> dict[str, float]:
        """Return the seconds by stage of a run that ended at `ended_at`; asked after `close`.

        `start` is from the order to run to the first output, `prepare` from there to the first line
        that counts steps, `steps` to the last such line, `evaluate` from there to the end. All but
        `start` are absent unless steps were counted at two moments, and all are without output.
        """
        if self._first_output_at is None:
            return {}
        found = {"start": self._first_output_at - self._began_at}
        first, last = self._first_step_at, self._last_step_at
        if first is not None and last is not None and last > first:
            found["prepare"] = first - self._first_output_at
            found["steps"] = last - first
            found["evaluate"] = max(0.0, ended_at - last)
        return found

    def _look(self) -> None:
        """Search what has come since the last look for the latest line that counts steps."""
        *lines, self._unseen = self._unseen.replace(b"\r", b"\n").split(b"\n")
        self._look_at = self._unseen_at + _LOOK_S
        for line in reversed(lines[-_LOOK_LINES:]):
            points = parse_points(printable(line.decode("utf-8", "replace")))
            if self._counter.feed(self._unseen_at - self._began_at, points):
                self._last_step_at = self._unseen_at
                self._first_step_at = self._first_step_at or self._unseen_at
                return
