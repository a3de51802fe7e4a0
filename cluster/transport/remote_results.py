"""Brings to the head what trials leave on a node: logs as they grow, then everything, once.

Knows what is sent when, and that a head may be away. Does not know Ray. A thread does it beside the
slot's loop. What is still to be sent is a file in `unsent`, named for the attempt and made before
the trial is reported, so that it outlives this process: then any other worker of the node sends it.
"""

import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.transport.depot import Depot
from cluster.transport.left_behind import Plan, plan
from cluster.transport.manifest import Left, Manifest, shown
from cluster.transport.shelf import MOST_LOG_BYTES, Refused
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES
from trainer.paths import KINDS, OUT, PREDICTIONS, WorkerPaths, out_name
from trainer.safe_read import SafeFolder, Unsafe
from trainer.slot_parts import WorkerSettings
from trainer.trial import CommitId, TrialId, TrialSpec

BEAT_S = 2.0
BEAT_BYTES = 256 << 10
"""Of each log, at most so much a beat: what is printed faster comes later."""
WHOLE_S = 16.0
"""How often a log that is cut in the middle is sent, as a whole: about as many bytes a second."""
PART_BYTES = 4 << 20
OTHERS_S = 60.0
"""What was not sent for so long is taken over from the worker that left it."""
LATER_S = 60.0
"""After a failure that is not the head's: it would only come again."""
CLOSE_S = 10.0
_log = logging.getLogger("incumbent")


class RemoteResults:
    """trainer.ports.ResultSink on a node that shares no files with the head."""

    def __init__(
        self,
        depot: Depot,
        paths: WorkerPaths,
        *,
        node: str,
        base: CommitId,
        needed: tuple[str, ...] = (),
        first: tuple[str, ...] = (),
        others_s: float = OTHERS_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Send what trials left of a study that began at `base`.

        `needed` are files that the head scores, `first` patterns of others that it wants most; what
        others left is taken over when it is `others_s` seconds old. The clock is that of files.
        """
        self._depot = depot
        self._paths = paths
        self._node = node
        self._base = base
        self._needed = needed
        self._first = first
        self._others_s = others_s
        self._clock = clock
        self._lock = threading.Lock()
        self._followed: dict[Path, int] = {}
        self._whole: dict[Path, float] = {}
        """When each log that is cut in the middle is to be sent again."""
        self._ended: set[Path] = set()
        self._own: set[str] = set()
        self._later: dict[str, float] = {}
        self._next_beat = 0.0
        self._silent_since: float | None = None
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    @classmethod
    def of(
        cls, settings: WorkerSettings, depot: Depot, *, others_s: float = OTHERS_S
    ) -> "RemoteResults":
        """Return what sends the results of a worker, or of its whole node."""
        return cls(
            depot,
            settings.paths,
            node=settings.node,
            base=settings.base,
            needed=settings.needed,
            first=settings.keep.first,
            others_s=others_s,
        )

    def start(self) -> "RemoteResults":
        """Begin to send, also what an earlier worker has left; return itself."""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def follow(self, run: TrialSpec) -> None:
        """See ResultSink."""
        with self._lock:
            self._ended |= self._followed.keys()
            self._followed[self._paths.log(run)] = 0

    def left(self, trial: TrialSpec) -> None:
        """See ResultSink."""
        name = out_name(trial.trial, trial.attempt)
        with suppress(OSError):  # a disk without room for an empty file: it stays here
            self._paths.unsent.mkdir(parents=True, exist_ok=True)
            (self._paths.unsent / name).write_text(self._base, "ascii")
        with self._lock:
            self._own.add(name)
            self._ended |= {path for path in self._followed if _is_of(path, trial.trial)}
        self._wake.set()

    def close(self) -> None:
        """See ResultSink; what this worker's trials left is sent within a few seconds, or later."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    @property
    def silent_s(self) -> float:
        """For how long the head has taken nothing, as far as it was asked to."""
        return 0.0 if self._silent_since is None else self._clock() - self._silent_since

    @property
    def stuck(self) -> int:
        """Of how many trials something could not be sent which the head has not refused yet."""
        return len(self._later)

    def step(self) -> None:
        """Send what there is to be sent; raises ConnectionError where the head is away."""
        self._send_logs()
        for name in self.unsent():
            with self._taken(name) as is_ours:
                if is_ours:
                    self._deliver(name)

    def _work(self) -> None:
        while True:
            try:
                self.step()
                self._silent_since = None
            except ConnectionError:  # the next beat tries again
                self._silent_since = self._silent_since or self._clock()
            except Exception:  # noqa: BLE001 - this thread lives as long as the worker
                _log.exception("results could not be sent")
            if self._is_closing and not self._own:
                return
            self._wake.wait(BEAT_S)
            self._wake.clear()

    # --- while a trial runs ----------------------------------------------------------------------

    def _send_logs(self) -> None:
        """Send what is new in the logs that are followed, at most once a beat."""
        self._next_beat = self._clock() + BEAT_S
        with self._lock:
            followed = dict(self._followed)
        for path, offset in followed.items():
            news = _news(path, offset)
            if news is None:
                at = self._replace(path, offset)
            else:
                at = self._append(path, offset, news) if news else offset
            with self._lock:
                if at is None or (path in self._ended and not news):
                    self._ended.discard(path)
                    self._followed.pop(path, None)
                    self._whole.pop(path, None)
                else:
                    self._followed[path] = at

    def _append(self, path: Path, offset: int, news: bytes) -> int | None:
        """Send what a log has gained; None if the head will have nothing of it."""
        try:
            return self._depot.append_log(path.name, offset, news)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - a log that cannot be followed stops nothing else
            _log.exception("%s cannot be followed", path.name)
            return None

    def _replace(self, path: Path, offset: int) -> int | None:
        """Send all of a log that is cut in the middle, if it is time to; None as in `_append`."""
        if self._clock() < self._whole.get(path, 0.0):
            return offset
        log = self._send_log(path)
        self._whole[path] = self._clock() + WHOLE_S
        return None if log.stayed else offset

    # --- when it has ended -----------------------------------------------------------------------

    def unsent(self) -> list[str]:
        """Return whose results are to be sent: our own, and what others left long ago.

        Not what could not be sent a moment ago, for a reason that is not the head's silence.
        """
        found = sorted(self._markers())
        now = self._clock()
        return [
            name
            for at, name in found
            if now >= self._later.get(name, 0.0)
            and (name in self._own or now - at > self._others_s)
        ]

    def _markers(self) -> Iterator[tuple[float, str]]:
        """Yield the time and the name of each file in `unsent`."""
        with suppress(FileNotFoundError):  # no such folder yet
            for path in self._paths.unsent.iterdir():
                with suppress(FileNotFoundError):  # another thread or worker has just sent it
                    yield path.stat().st_mtime, path.name

    @contextmanager
    def _taken(self, name: str) -> Iterator[bool]:
        """Keep other workers from sending the same; False if one is at it, or has done it."""
        try:
            marker = os.open(self._paths.unsent / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._own.discard(name)
            yield False
            return
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield os.fstat(marker).st_nlink > 0
        except BlockingIOError:
            yield False
        finally:
            os.close(marker)

    def _deliver(self, name: str) -> None:
        try:
            if self._is_of_this_study(name):
                self._send(name)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001
            # Whatever it is, it must cost neither the worker nor what else is to be sent.
            _log.exception("what %s left could not be sent", name)
            now = self._clock()
            self._later[name] = now + LATER_S
            with suppress(OSError):  # others are not to try at once, too
                os.utime(self._paths.unsent / name, (now, now))
            return
        (self._paths.unsent / name).unlink(missing_ok=True)
        self._own.discard(name)
        self._later.pop(name, None)

    def _is_of_this_study(self, name: str) -> bool:
        """Say whether it was left since the study was begun, and not before it was begun anew."""
        return (self._paths.unsent / name).read_text("ascii") in {"", self._base}

    def _send(self, name: str) -> None:
        logs = tuple(self._send_log(path) for path in self._paths.logs_of(name))
        token = uuid.uuid4().hex
        room = self._depot.begin(name, token)
        plans, sent, lack = {}, {}, room.lack
        for kind in reversed(KINDS):  # predictions first: they are ours, not the candidate's
            folder = self._paths.kept(kind, name)
            plans[kind] = plan(folder, room, needed=self._needed, first=self._first)
            room = plans[kind].rest
            sent[kind] = self._send_files(kind, (name, token), plans[kind])
        self._depot.finish(
            name,
            token,
            Manifest(
                node=self._node,
                folder=os.fspath(self._paths.kept(OUT, name)),
                files=(*sent[OUT], *_because(plans[OUT].staying, lack)),
                unlisted=plans[OUT].unlisted,
                predictions=(*sent[PREDICTIONS], *_because(plans[PREDICTIONS].staying, lack)),
                logs=logs,
                problem=plans[OUT].problem,
            ),
        )
        for log in logs:
            if not log.stayed:  # nobody looks for it here
                (self._paths.study / "logs" / log.name).unlink(missing_ok=True)

    def _send_log(self, path: Path) -> Left:
        try:
            with SafeFolder(path.parent) as folder:
                data = folder.read(path.name, MOST_LOG_BYTES)
            self._depot.put_log(path.name, data)
        except ConnectionError:
            raise
        except (Refused, Unsafe, OSError) as error:
            return Left(name=path.name, bytes=0, stayed=shown(str(error)))
        return Left(name=path.name, bytes=len(data))

    def _send_files(self, kind: str, delivery: tuple[str, str], planned: Plan) -> list[Left]:
        sent = []
        for found in planned.going:
            stayed = ""
            try:
                with SafeFolder(self._paths.kept(kind, delivery[0])) as folder:
                    chunks = folder.chunks(found.name, found.size)
                    self._send_file(delivery, f"{kind}/{found.name}", chunks)
            except ConnectionError:
                raise
            except (Refused, Unsafe, OSError) as error:
                stayed = shown(str(error))
            sent.append(Left(name=found.name, bytes=found.size, stayed=stayed))
        return sent

    def _send_file(self, delivery: tuple[str, str], place: str, chunks: Iterator[bytes]) -> None:
        at, part = 0, next(chunks, b"")
        for chunk in chunks:
            if len(part) >= PART_BYTES:
                self._depot.put(delivery, place, at, part)
                at, part = at + len(part), b""
                if self._clock() >= self._next_beat:
                    self._send_logs()
            part += chunk
        self._depot.put(delivery, place, at, part)


def _news(path: Path, offset: int) -> bytes | None:
    """Return what a log has gained; None of one that is cut in the middle, and written anew."""
    try:
        with SafeFolder(path.parent) as folder:
            if folder.size(path.name) > HEAD_BYTES + TAIL_BYTES:
                return None
            return next(folder.chunks(path.name, MOST_LOG_BYTES, start=offset), b"")[:BEAT_BYTES]
    except (Unsafe, OSError):
        return b""


def _is_of(path: Path, trial: TrialId) -> bool:
    return path.name.startswith((f"{trial}.", f"{trial}-"))


def _because(staying: tuple[Left, ...], lack: str) -> list[Left]:
    """Return files that stay, for the reason that the head has no room where that is so."""
    if not lack:
        return [*staying]
    why = f"the head's disk: {lack}"
    return [Left(name=each.name, bytes=each.bytes, stayed=each.stayed and why) for each in staying]
