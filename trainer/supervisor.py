"""The process that owns a worker's trials: it starts them, drains, limits, and ends them all.

Knows processes, pipes and time. Does not know studies, git, Ray or what a trial is for. It exists
because a worker may die by SIGKILL at any moment and nothing of its trial may survive that: the
supervisor lives in a session of its own, out of reach of whatever kills the worker's children and
process group, and takes the end of its one connection, an inherited socket, as the order to kill
everything that it started and to leave.

It runs in an isolated interpreter (`python -I -S`) on the standard library alone, single-threaded:
the death signal of a trial's first process follows the thread that started it. Should the
supervisor be killed too, that signal ends the first process; `process_tree.sweep`, called by the
client or by the slot's next worker, ends the rest.
"""

import errno
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from trainer.armed import ArmedProcess, how_started
from trainer.launch import PIPE_BYTES, NoSandbox, never_run, start_piped
from trainer.limits import Breach, Enforcer, RunLimits
from trainer.log_capture import LogCapture, parse_points
from trainer.process_tree import (
    Reaped,
    adjust_oom_score,
    become_subreaper,
    count_oom_kills,
    end_descendants,
    oom_score_adjustment,
    reap,
)
from trainer.run_records import (
    ArmRequest,
    CancelRequest,
    EndedBy,
    Message,
    RunProgress,
    RunReport,
    RunRequest,
)
from trainer.run_stages import RunStages
from trainer.run_start import RunStart
from trainer.supervisor_link import Link

_PROGRESS_S = 0.5
_FLUSH_S = 1.0
_IDLE_S = 60.0
_TIDY_S = 3.0
_OOM_PREFERENCE = 500
"""How much sooner, in thousandths of memory, the kernel should kill a trial than its worker."""


class _Trial:
    """One run, from its start to its report."""

    def __init__(
        self,
        request: RunRequest,
        oom_score: int,
        limits: RunLimits,
        armed: ArmedProcess | None,
        how: RunStart,
        began_at: float,
    ) -> None:
        """Start it; raises NoSandbox, or OSError or ValueError if there is nothing to start.

        `armed` is ready and becomes its command; `how` says of that what is to be reported.
        """
        self._request = request
        self._limits = limits
        self._problem = ""
        self._capture = LogCapture(request.log_path, request.metric)
        self._how = how
        self.is_output_open = True
        self._ended_by = EndedBy.EXIT
        self._exit_code: int | None = None
        self._cpu_s = 0.0
        self._max_rss_mb = 0.0
        self._oom_kills = count_oom_kills()
        self._started_at = began_at
        self._stages = RunStages(began_at)
        self._deadline = self._started_at + request.timeout_s
        self._progress_at = self._started_at + _PROGRESS_S
        self._flush_at = self._started_at + _FLUSH_S
        try:
            self._started, self.output = (
                armed.go() if armed else start_piped(request, oom_score, limits)
            )
        except BaseException:
            self._capture.close()
            raise

    def wait_s(self) -> float:
        """Return for how long nothing but input can happen."""
        next_at = min(self._deadline, self._progress_at, self._flush_at, self._limits.next_at)
        return max(0.0, next_at - time.monotonic())

    def read(self) -> bool:
        """Take in what the pipe holds, at most its size; return whether there was anything."""
        try:
            chunk = os.read(self.output, PIPE_BYTES)
        except BlockingIOError:
            return False
        self.is_output_open = bool(chunk)
        now = time.monotonic()
        self._capture.feed(chunk, now - self._started_at)
        self._stages.feed(chunk, now)
        return bool(chunk)

    def stop(self, why: EndedBy) -> None:
        """Ask the command's process group to end, and have everything killed after the grace."""
        if self._ended_by is not EndedBy.EXIT:
            return
        self._ended_by = why
        self._deadline = time.monotonic() + self._request.grace_s
        self._started.terminate()

    def progress(self) -> RunProgress | None:
        """Return where the run stands, or None if the last answer is younger than half a second."""
        now = time.monotonic()
        if now < self._progress_at:
            return None
        self._progress_at = now + _PROGRESS_S
        line = self._capture.last_line()
        return RunProgress(
            elapsed_s=now - self._started_at, last_line=line, points=parse_points(line)
        )

    def advance(self) -> RunReport | None:
        """Do what is due; return the report if that was the end."""
        ended, _ = reap()
        self._account(ended)
        now = time.monotonic()
        if now >= self._flush_at:
            self._flush_at = now + _FLUSH_S
            self._capture.file.flush()
        if self._exit_code is not None:
            return self._finish(now)
        if self._capture.file.problem:
            self._ended_by = EndedBy.DISK_FULL
            return self._finish(now)
        if breach := self._limits.check(now):
            self._hit(breach)
            return self._finish(now)
        if now < self._deadline:
            return None
        if self._ended_by is EndedBy.EXIT:
            self.stop(EndedBy.TIMEOUT)
            return None
        return self._finish(now)

    def _hit(self, breach: Breach | None) -> None:
        # Whatever the first process made of it, by chance a moment earlier: it was not within its
        # limits. A run that was told to end has another reason already.
        if breach and self._ended_by is EndedBy.EXIT:
            self._ended_by, self._problem = breach.ended_by, breach.reason

    def _account(self, ended: list[Reaped]) -> None:
        for each in ended:
            self._cpu_s += each.cpu_s
            self._max_rss_mb = max(self._max_rss_mb, each.max_rss_mb)
            if each.pid == self._started.pid:
                self._exit_code = each.exit_code

    def _finish(self, ended_at: float) -> RunReport:
        self._limits.kill()
        killed, is_any_left = end_descendants()
        self._hit(self._limits.check_end())
        self._account(killed)
        leftovers = [each for each in killed if each.pid != self._started.pid]
        self._drain()
        if self._capture.file.problem:
            self._ended_by, self._problem = EndedBy.DISK_FULL, str(self._capture.file.problem)
        elif self._was_never_run():
            self._ended_by, self._problem = never_run(self._capture.tail())
        self._started.close()
        self._stages.close()
        rate = self._stages.rate()
        if is_any_left:
            self._problem = self._problem or "some processes do not die, even by SIGKILL"
        reader = self._capture.reader
        return RunReport(
            ended_by=self._ended_by,
            exit_code=self._exit_code,
            problem=self._problem,
            metric_text=reader.text,
            metric_count=reader.count,
            value_at_s=reader.sightings.value_at_s,
            first_step_s=self._stages.first_step_s(),
            final_values=reader.sightings.final_values(self._stages.trained_until_s()),
            summary=reader.summary,
            tail=self._capture.tail(),
            wall_s=ended_at - self._started_at,
            cpu_s=self._cpu_s,
            max_rss_mb=self._max_rss_mb,
            peak_memory_mb=self._limits.peak_bytes / (1 << 20),
            limits_by=self._limits.enforcement,
            sandbox="bubblewrap" if self._request.confinement else "none",
            start=self._how.start,
            cold_reason=self._how.reason,
            log_bytes=self._capture.file.total,
            log_dropped=self._capture.file.dropped,
            leftover_processes=sum(each.exit_code == -signal.SIGKILL for each in leftovers),
            oom_kills=count_oom_kills() - self._oom_kills,
            stages_s=self._stages.seconds(ended_at),
            steps_per_s=rate.per_s if rate else None,
            step_counter=rate.counter if rate else "",
        )

    def close(self) -> None:
        """Give back what the run's limits took; to be called after its report."""
        self._limits.close()

    def _was_never_run(self) -> bool:
        has_left = self._ended_by is EndedBy.EXIT and (self._exit_code or 0) > 0
        return has_left and not self._started.has_run()

    def _drain(self) -> None:
        # Whoever held the other end is dead: what the pipe holds now is all there will be. The
        # bound is for a process that could not be killed.
        give_up_at = time.monotonic() + 1.0
        while self.read() and time.monotonic() < give_up_at:
            pass
        os.close(self.output)
        self._capture.close()


class _Supervisor:
    """The loop that serves one client, one trial at a time, until the connection ends."""

    def __init__(self, end: socket.socket) -> None:
        self._link = Link(end)
        self._trial: _Trial | None = None
        self._armed: ArmedProcess | None = None
        self._why_unarmed = ""
        """What became of the process that waited last, if it was of no use."""
        self._oom_score = oom_score_adjustment() + _OOM_PREFERENCE
        self._enforcer = Enforcer()
        self._wake, wake_end = os.pipe()
        for each in (self._wake, wake_end):
            os.set_blocking(each, False)
        # A child's end (and SIGTERM, an orderly way to leave) interrupts select through this pipe.
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def serve(self) -> None:
        """Serve until the client is gone; nothing that was started outlives this call."""
        try:
            while self._link.is_open:
                self._step()
        finally:
            end_descendants()
            if self._trial:
                self._trial.close()
            self._disarm()

    def tidy(self) -> None:
        """Remove what the kernel was not done with, when nobody waits any more."""
        self._enforcer.bury(_TIDY_S)

    def _step(self) -> None:
        trial = self._trial
        writers = [self._link.end] if self._link.has_unsent else []
        wait_s = _IDLE_S if trial is None else trial.wait_s()
        ready, ready_to_write, _ = select.select(self._readers(), writers, [], wait_s)
        if ready_to_write:
            self._link.flush()
        if self._wake in ready and signal.SIGTERM in os.read(self._wake, 4096):
            self._link.is_open = False
        if self._armed is not None and self._armed.channel in ready:
            self._hear(self._armed)
        if self._link.end in ready:
            for message in self._link.receive():
                self._obey(message)
        if trial is not None:
            if trial.output in ready:
                trial.read()
            self._look_after(trial)

    def _readers(self) -> list[socket.socket | int]:
        readers: list[socket.socket | int] = [self._link.end, self._wake]
        if self._trial is not None and self._trial.is_output_open:
            readers.append(self._trial.output)
        if self._armed is not None:
            readers.append(self._armed.channel)
        return readers

    def _hear(self, armed: ArmedProcess) -> None:
        armed.listen()
        if armed.problem:
            self._disarm()

    def _obey(self, message: Message) -> None:
        match message:
            case RunRequest():
                self._run(message)
            case ArmRequest():
                self._arm(message.run)
            case CancelRequest():
                self._disarm()
                if self._trial is not None:
                    self._trial.stop(EndedBy.CANCEL)
            case _:
                raise ValueError(f"not an order: {message}")

    def _arm(self, request: RunRequest) -> None:
        if self._trial is not None:
            raise ValueError("one trial at a time")
        self._disarm()
        limits = self._enforcer.begin(request.limits, request.mark)
        try:
            self._armed = ArmedProcess(request, self._oom_score, limits)
        except (NoSandbox, OSError, ValueError) as error:
            limits.close()  # the run itself will say so too, should it come
            self._why_unarmed = str(error)

    def _disarm(self) -> None:
        armed, self._armed = self._armed, None
        self._why_unarmed = armed.problem if armed else ""
        if armed is not None:
            armed.end()

    def _run(self, request: RunRequest) -> None:
        if self._trial is not None:
            raise ValueError("one trial at a time")
        began_at = time.monotonic()
        armed = self._armed
        if armed and (armed.request != request or not armed.is_ready(self._link.end)):
            self._disarm()
        gone, _ = reap()  # and what could not be killed at the end of an earlier one
        if self._armed and self._armed.started.pid in {each.pid for each in gone}:
            self._armed.problem = "it was killed while it waited"
            self._disarm()
        armed, self._armed = self._armed, None
        limits = armed.limits if armed else self._enforcer.begin(request.limits, request.mark)
        how = how_started(request, waited=armed is not None, problem=self._why_unarmed)
        try:
            self._trial = _Trial(request, self._oom_score, limits, armed, how, began_at)
        except (NoSandbox, OSError, ValueError) as error:
            armed.end() if armed else limits.close()
            self._link.send(RunReport(ended_by=_not_started(error), problem=str(error)))

    def _look_after(self, trial: _Trial) -> None:
        if report := trial.advance():
            self._trial = None
            self._link.send(report)
            trial.close()
        elif (progress := trial.progress()) and not self._link.has_unsent:
            self._link.send(progress)  # a client that does not read misses it


def _not_started(error: Exception) -> EndedBy:
    if isinstance(error, NoSandbox):
        return EndedBy.NO_SANDBOX
    is_full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return EndedBy.DISK_FULL if is_full else EndedBy.NOT_STARTED


def main() -> None:
    """Serve the client at the socket whose number is the first argument, as a detached process."""
    if os.fork():
        # The client waits for this process alone; the one that works is nobody's child.
        os._exit(0)
    # What the client blocks, or its shell ignores (nohup, &), fork and exec hand down.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    become_subreaper()
    with socket.socket(fileno=int(sys.argv[1])) as end:
        end.set_inheritable(False)
        supervisor = _Supervisor(end)
        with suppress(OSError):
            adjust_oom_score(0)
        supervisor.serve()
    supervisor.tidy()
