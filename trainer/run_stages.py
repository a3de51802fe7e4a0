"""What a run's output tells of its time: when it spoke first, when it trained, how fast.

Knows lines, progress and moments. Does not know processes: it is told what arrived and when.
Standard library only: the supervisor imports this module in an isolated interpreter.

A script says nowhere "now I train". What can be known from its log is when its first byte came, and
when lines that count steps came; the time before, between and behind these are the stages. What the
log does not tell is absent, never guessed.
"""

from collections.abc import Mapping

from trainer.log_capture import parse_points, printable
from trainer.step_rate import StepCounter, StepRate, counters

_BATCH_S = 0.05
"""Output that arrives within this time is searched together: what the stages are exact to."""
_TOGETHER_S = 2 * _BATCH_S
"""What comes within this time of a line may have been printed with it, and read a batch later."""
_MOST_BYTES = 4096
_MOST_LINES = 32
"""Of a batch, from its end, so that a flood of output costs little."""


class RunStages:
    """Follows one run's output. Times are in seconds, by the clock that `began_at` is of."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._counter = StepCounter()
        self._batch = b""
        self._batch_began_at = began_at
        self._batch_at = began_at
        self._first_output_at: float | None = None
        self._first_step_at: float | None = None
        self._last_step_at: float | None = None

    def feed(self, chunk: bytes, now: float) -> None:
        """Take in output that arrived at `now`."""
        if not chunk:
            return
        if self._first_output_at is None:
            self._first_output_at = now
        if now - self._batch_began_at >= _BATCH_S:
            self._search()
            self._batch_began_at = now
        batch = self._batch + chunk[-_MOST_BYTES:]
        if len(batch) > _MOST_BYTES:  # begin with a whole line
            batch = batch[-_MOST_BYTES:].replace(b"\r", b"\n").partition(b"\n")[2]
        self._batch, self._batch_at = batch, now

    def close(self) -> None:
        """Search what has come last; nothing follows."""
        self._search()

    def rate(self) -> StepRate | None:
        """Return the steps a second, None where the log does not tell; asked after `close`."""
        return self._counter.rate()

    def first_step_s(self) -> float | None:
        """Return when steps were counted first, from the start on; asked after `close`.

        None unless that was at two moments.
        """
        counted = self._counted()
        return counted[0] - self._began_at if counted else None

    def trained_until_s(self) -> float | None:
        """Return when training was over, from the start on; asked after `close`.

        That is once all has come that was printed with the last line that counts steps. None unless
        steps were counted at two moments.
        """
        counted = self._counted()
        return counted[1] - self._began_at + _TOGETHER_S if counted else None

    def seconds(self, ended_at: float) -> dict[str, float]:
        """Return the seconds by stage of a run that ended at `ended_at`; asked after `close`.

        `start` is from the order to run to the first output, `prepare` from there to the first line
        that counts steps, `steps` to the last such line, `evaluate` from there to the end. All but
        `start` are absent unless steps were counted at two moments, and all are without output.
        """
        if self._first_output_at is None:
            return {}
        found = {"start": self._first_output_at - self._began_at}
        if counted := self._counted():
            first, last = counted
            found["prepare"] = first - self._first_output_at
            found["steps"] = last - first
            found["evaluate"] = max(0.0, ended_at - last)
        return found

    def _counted(self) -> tuple[float, float] | None:
        """Return when steps were counted first and last; None unless at two moments."""
        first, last = self._first_step_at, self._last_step_at
        return (first, last) if first is not None and last is not None and last > first else None

    def _search(self) -> None:
        """Find the batch's latest line that counts steps; what is behind the last line end stays.

        That may be all there is of a line that a script draws anew with carriage returns, and it
        may end within a number. So it is read, but for what stands at its very end.
        """
        *lines, self._batch = self._batch.replace(b"\r", b"\n").split(b"\n")
        for line in (self._batch + b"_", *reversed(lines[-_MOST_LINES:])):
            points = parse_points(printable(line.decode("utf-8", "replace")))
            if counters(points):
                self._note(points)
                return

    def _note(self, points: Mapping[str, float]) -> None:
        if self._counter.feed(self._batch_at - self._began_at, points):
            self._last_step_at = self._batch_at
            self._first_step_at = self._first_step_at or self._batch_at
