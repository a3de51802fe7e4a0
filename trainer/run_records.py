"""What the trial supervisor is asked, what it says meanwhile, and what it reports at the end.

Knows the records and their form on the wire: one JSON object a line. Does not know processes or
sockets. Standard library only: the supervisor imports this module in an isolated interpreter.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from eval.metric import Goal, Metric
from trainer.run_start import Start


class EndedBy(StrEnum):
    """What ended a run."""

    EXIT = "exit"  # the command ended by itself
    TIMEOUT = "timeout"  # it reached timeout_s
    CANCEL = "cancel"  # the client asked for it
    NOT_STARTED = "not_started"  # there never was a process
    DISK_FULL = "disk_full"  # its log could not be written
    NO_SANDBOX = "no_sandbox"  # the command never ran, because its sandbox could not be made
    MEMORY = "memory"  # all its processes together held more than Limits.memory_bytes
    DISK = "disk"  # the watched folders held more than Limits.disk_bytes or disk_files
    PIDS = "pids"  # it wanted more processes and threads than Limits.pids
    SUPERVISOR_LOST = "supervisor_lost"  # the supervisor went away: nothing is known of the run


class Enforcement(StrEnum):
    """How limits on memory and processes are held."""

    CGROUP_V2 = "cgroup v2"  # by the kernel, exactly
    CGROUP_V1 = "cgroup v1"  # the same
    WATCHDOG = "watchdog"  # by looking four times a second, and by rlimits: best effort


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What all processes of a run together may take; None is no limit."""

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    """Allocated in `folders`, whatever was there before the run included."""
    disk_files: int | None = None
    """Files and folders in `folders`, likewise."""
    pids: int | None = None
    """Processes and threads."""
    open_files: int | None = None
    """Of each process."""
    folders: tuple[str, ...] = ()
    """The only folders that the run can write to, but for its own temporary ones."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Limits":
        """Undo dataclasses.asdict, after JSON made the tuple a list."""
        return cls(**{**values, "folders": tuple(values["folders"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or folder of this machine that a sandbox shows."""

    source: str
    place: str
    """Where it is seen inside."""
    is_writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """The sandbox around one command: all that it may see of this machine, and how much it may use.

    Paths are absolute and exist, except for `devices`, which may. What is not named is not there.
    """

    program: str
    """The bwrap to start."""
    program_root: str = ""
    """Folder that holds it and its libraries, if it is none that every user can read."""
    uid: int | None = None
    """Whom to become first, where Incumbent runs as root; None as a plain user."""
    binds: tuple[Bind, ...]
    links: tuple[tuple[str, str], ...] = ()
    """Symbolic links to make: what each says, and where it is."""
    devices: tuple[str, ...] = ()
    """Device nodes of the cards that the trial has leased, and of their driver."""
    home: str
    """An empty folder of its own, at the place of the user's home."""
    home_bytes: int
    tmp_bytes: int
    shm_bytes: int
    """Sizes of the private /tmp and /dev/shm, which are memory."""
    network: bool = False
    """Leave it this machine's network; a trial never has that."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        binds = [[bind.source, bind.place, bind.is_writable] for bind in self.binds]
        return _values(self) | {"binds": binds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Confinement":
        """Undo `to_dict`."""
        binds = (Bind(source=s, place=p, is_writable=w) for s, p, w in values["binds"])
        return cls(
            **{
                **values,
                "binds": tuple(binds),
                "links": tuple((target, place) for target, place in values["links"]),
                "devices": tuple(values["devices"]),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """How to start a process that waits, its imports done, to become a run's command."""

    argv: tuple[str, ...]
    """It says on its standard input, a socket, when it is ready, and reads there a byte for go."""
    env: Mapping[str, str]
    without_imports: str = ""
    """Why it imports nothing while it waits; empty where it does its imports."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "WarmStart":
        """Undo dataclasses.asdict, after JSON made the tuple a list."""
        return cls(**{**values, "argv": tuple(values["argv"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One command to run under supervision."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment; the mark is added to it. A bare argv[0] is looked up on its PATH."""
    cwd: str
    log_path: str
    """Where stdout and stderr go, merged; an existing file is replaced."""
    timeout_s: float
    """Wall-clock limit in seconds, on the whole process tree."""
    metric: Metric
    mark: str
    """STUDY/SLOT/TRIAL; every process of the run carries it in its environment."""
    grace_s: float = 2.0
    """Seconds between SIGTERM and SIGKILL at a timeout or cancellation."""
    confinement: Confinement | None = None
    """The sandbox; `env` and `cwd` are then as seen from inside. None runs it as the worker."""
    limits: Limits | None = None
    """What else than time and log is limited; None is nothing."""
    warm: WarmStart | None = None
    """How a process can wait for this run; None where that is not possible."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        metric = {
            "name": self.metric.name,
            "goal": self.metric.goal,
            "pattern": self.metric.pattern,
        }
        return _values(self) | {
            "env": dict(self.env),
            "metric": metric,
            "confinement": self.confinement.to_dict() if self.confinement else None,
            "limits": asdict(self.limits) if self.limits else None,
            "warm": asdict(self.warm) if self.warm else None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunRequest":
        """Undo `to_dict`."""
        metric, confined, limits = (values[name] for name in ("metric", "confinement", "limits"))
        warm = values.get("warm")
        return cls(
            **{
                **values,
                "argv": tuple(values["argv"]),
                "limits": Limits.from_dict(limits) if limits else None,
                "metric": Metric(**{**metric, "goal": Goal(metric["goal"])}),
                "confinement": Confinement.from_dict(confined) if confined else None,
                "warm": WarmStart.from_dict(warm) if warm else None,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """Where a run stands."""

    elapsed_s: float
    last_line: str = ""
    """The last non-empty line of output: printable characters only, at most 200."""
    points: Mapping[str, float] = field(default_factory=dict)
    """Finite numbers named in that line, e.g. step, percent, loss."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return _values(self) | {"points": dict(self.points)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunProgress":
        """Undo `to_dict`."""
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What came of a run: facts only, no opinion."""

    ended_by: EndedBy
    exit_code: int | None = None
    """Of the first process; negative is a signal; None if it never started or is unknown."""
    problem: str = ""
    """What the operating system said where the supervisor failed at something, or which limit."""
    metric_text: str | None = None
    """What the metric's pattern matched last; None if it never did."""
    metric_count: int = 0
    """How many lines the pattern matched."""
    value_at_s: float | None = None
    """When it matched last, in seconds from the start; None if it never did."""
    first_step_s: float | None = None
    """See eval.suspicion.Conduct."""
    final_values: int = 0
    """How many different values it matched at the end; see eval.metric.Sightings."""
    summary: Mapping[str, float] = field(default_factory=dict)
    """Other `name: value` lines, from the log's first MiB and its end."""
    tail: str = ""
    """The last 16,384 characters of the log at most, as a terminal would have left them."""
    wall_s: float = 0.0
    """From the start to the end of the first process."""
    cpu_s: float = 0.0
    """User and system time of all its processes."""
    max_rss_mb: float = 0.0
    """Largest resident set of any one process, in MiB."""
    peak_memory_mb: float = 0.0
    """Most that all its processes together were seen to hold, in MiB, without cached files."""
    limits_by: Enforcement | None = None
    """How memory and processes were limited; None if they were not."""
    sandbox: str = ""
    """What it ran in, "bubblewrap" or "none"; empty if it never started."""
    start: Start | None = None
    """What had been done for it when its turn came; None if it never started."""
    cold_reason: str = ""
    """Why its imports had not been done by then; empty if they had."""
    log_bytes: int = 0
    """Bytes the run printed, kept or not."""
    log_dropped: int = 0
    """Bytes between the kept first and last MiB."""
    leftover_processes: int = 0
    """How many processes were still there at the end and had to be killed."""
    oom_kills: int = 0
    """Processes that the kernel killed for want of memory meanwhile, anywhere on the machine."""
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the stages within the run that its output tells of; see trainer.run_stages."""
    steps_per_s: float | None = None
    """Over the middle of the run; None where its progress lines do not tell."""
    step_counter: str = ""
    """What they count: one of trainer.step_rate.COUNTERS; empty if nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return _values(self) | {"summary": dict(self.summary), "stages_s": dict(self.stages_s)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunReport":
        """Undo `to_dict`."""
        by, start = values.get("limits_by"), values.get("start")
        return cls(
            **{
                **values,
                "ended_by": EndedBy(values["ended_by"]),
                "limits_by": Enforcement(by) if by else None,
                "start": Start(start) if start else None,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """The wish to end the current run, or what waits for one; ignored when there is neither."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CancelRequest":
        """Undo `to_dict`."""
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRequest:
    """The wish to have a process wait for a run: one with `warm`, that may be asked for next."""

    run: RunRequest

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {"run": self.run.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ArmRequest":
        """Undo `to_dict`."""
        return cls(run=RunRequest.from_dict(values["run"]))


Message = RunRequest | ArmRequest | CancelRequest | RunProgress | RunReport

_KINDS: dict[str, type[Message]] = {
    "run": RunRequest,
    "arm": ArmRequest,
    "cancel": CancelRequest,
    "progress": RunProgress,
    "report": RunReport,
}
_NAMES = {record: name for name, record in _KINDS.items()}


def encode(message: Message) -> bytes:
    """Return the message as one line."""
    # Lone surrogates (file names and variables that are not UTF-8) survive as ASCII escapes.
    return json.dumps([_NAMES[type(message)], message.to_dict()]).encode() + b"\n"


class MessageReader:
    """Puts messages together from the pieces that a stream socket delivers."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_decode(line) for line in lines]


def _decode(line: bytes) -> Message:
    kind, values = json.loads(line)
    return _KINDS[kind].from_dict(values)


def _values(record: Message | Confinement) -> dict[str, Any]:
    return {each.name: getattr(record, each.name) for each in fields(record)}
