"""A study of short experiments on machines of a rack: its head, its nodes, and what it recorded."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cluster.ledger.codec import decode_event
from cluster.ledger.ledger import catch_up
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.state.events import Recorded
from cluster.state.state import StudyState
from infra.local.home import StudyHome
from tests.chaos.machines import PROGRAM, ROOT, Command, Machine

REPOSITORY = ROOT / "research"
NAME = "chaos"
SCRIPT = """#!/bin/sh
X=2.0 # range: 0.1..8
Y=1.0 # range: 0.1..8
Z=4.0 # range: 0.1..8
sleep {seconds}
awk -v x=$X -v y=$Y -v z=$Z 'BEGIN {{ print "METRIC loss=" (x-1)^2 + (y-3)^2 + (z-2)^2 }}'
"""
CONFIG = """
[study]
name = "chaos"
editable = ["bench.sh"]
[metric]
name = "loss"
goal = "minimize"
pattern = '^METRIC loss=(\\S+)'
[trial]
command = "./bench.sh"
budget_s = 2
timeout_s = 30
gpus = 0
memory_gb = 0.5
sandbox = "{sandbox}"
[cluster]
slots = {slots}
lease_s = 6
"""
_DUMP = """
import sys
from pathlib import Path
from cluster.ledger.codec import encode_draft
from cluster.state.events import Draft
from infra.local.home import StudyHome
from infra.local.study import opened
with opened(StudyHome.read(Path(sys.argv[1]))) as study:
    depth = study.queue.depth()
    print(len(study.queue.held()), depth.ready)
    seen = 0
    while page := study.ledger.read(seen):
        for one in page:
            print(encode_draft(Draft(id=one.id, at=one.at, event=one.event)).decode())
        seen = page[-1].seq
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a study's server holds when the study has stopped."""

    recorded: Sequence[Recorded]
    leases: int
    waiting: int


@dataclass(kw_only=True)
class Study:
    """The study, as whoever runs it sees it."""

    head: Machine
    experiments: int
    nodes: list[Machine] = field(default_factory=list)
    """Machines that join; with any, the head listens."""
    slots: int = 2
    sandbox: str = "none"
    seconds: float = 0.5
    """How long a trial sleeps."""
    listens: bool = False
    runs: list[Command] = field(default_factory=list)
    _joins: list[threading.Thread] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def create(self) -> None:
        """Make the research repository on the head."""
        folder = self.head.outside(REPOSITORY.relative_to(ROOT))
        folder.mkdir()
        script, config = folder / "bench.sh", folder / "incumbent.toml"
        script.write_text(SCRIPT.format(seconds=self.seconds))
        script.chmod(0o755)
        config.write_text(CONFIG.format(sandbox=self.sandbox, slots=self.slots))
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        for words in (("init", "-qb", "main"), ("add", "."), ("commit", "-qm", "start")):
            done = self.head.run("git", *who, *words, folder=REPOSITORY)
            assert done.returncode == 0, done.stderr

    # --- running ---------------------------------------------------------------------------------

    def incumbent(self, *words: str, timeout_s: float = 240.0) -> str:
        """Run a command of ours in the repository; return what it printed."""
        done = self.head.run(str(PROGRAM), *words, folder=REPOSITORY, timeout_s=timeout_s)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def start(self) -> None:
        """Run it under a supervisor, which starts `incumbent run` again until the study ends."""
        threading.Thread(target=self._supervise, daemon=True).start()

    def go_on(self) -> None:
        """Run it again after a stop, when that is through."""
        assert self._is_over.wait(60.0), self.logs()
        self._is_over.clear()
        self.start()

    def _supervise(self) -> None:
        listen = (f"--listen={self.reach}",) if self.listens else ()
        words = ("run", "-n", str(self.experiments), *listen)
        while not self._is_over.is_set():
            if not self.head.is_on:
                time.sleep(0.1)
                continue
            run = self.head.start(str(PROGRAM), *words, folder=REPOSITORY)
            self.runs.append(run)
            if run.process.wait() == 0:
                self._is_over.set()
            else:
                time.sleep(1.0)

    @property
    def reach(self) -> str:
        """Where machines join."""
        return f"{self.head.address}:7700"

    def join(self, node: Machine, *, slots: int = 1) -> None:
        """Have a machine join, and join again whenever that ends, until the study does."""
        token = self.outside(self.home.directory / "ray.token").read_text()
        node.outside("home/token").write_text(token)
        node.outside("home/token").chmod(0o600)
        self.nodes.append(node)
        keeper = threading.Thread(target=self._keep_joined, args=(node, slots), daemon=True)
        self._joins.append(keeper)
        keeper.start()

    def _keep_joined(self, node: Machine, slots: int) -> None:
        token = ("--token-file", str(ROOT / "home" / "token"))
        while not self._is_over.is_set():
            if node.is_on:
                node.start(
                    str(PROGRAM), "join", self.reach, *token, "--slots", str(slots)
                ).process.wait()
            time.sleep(1.0)

    def leave(self) -> None:
        """Take all nodes out, which are then to have nothing left of the study."""
        for node in self.nodes:
            if node.is_on:
                done = node.run(str(PROGRAM), "leave", "--now")
                assert done.returncode == 0, f"{node.name}: {done.stderr}"
        for keeper in self._joins:
            keeper.join(20.0)

    @property
    def is_over(self) -> bool:
        """Say whether `incumbent run` ended well."""
        return self._is_over.is_set()

    def give_up(self) -> None:
        """Start it no more."""
        self._is_over.set()

    # --- what is so ------------------------------------------------------------------------------

    @property
    def home(self) -> StudyHome:
        """Where the study is, by the head's own paths."""
        found = StudyHome.locate(REPOSITORY, NAME)
        directory = ROOT / "state" / "studies" / found.id
        return StudyHome(name=NAME, repository=REPOSITORY, directory=directory)

    def outside(self, path: Path) -> Path:
        """Return by which path the host reaches what the head has at `path`."""
        return self.head.outside(path.relative_to(ROOT))

    def state(self, before: StudyState | None = None) -> StudyState:
        """Return what the ledger says, starting nothing; raises LedgerAway."""
        client = connect(f"unix://{self.outside(self.home.redis / 'redis.sock')}", patience_s=1.0)
        try:
            ledger = RedisLedger(RedisStore(client, self.home.ledger_id))
            return catch_up(ledger, before or StudyState())
        finally:
            client.close()

    def stored(self) -> Stored:
        """Return what the server holds, when the study has stopped."""
        python = str(PROGRAM.with_name("python"))
        done = self.head.run(python, "-I", "-c", _DUMP, str(self.home.directory))
        assert done.returncode == 0, done.stderr
        counts, *lines = done.stdout.splitlines()
        leases, waiting = map(int, counts.split())
        events = [decode_event(seq, line.encode()) for seq, line in enumerate(lines, start=1)]
        return Stored(recorded=events, leases=leases, waiting=waiting)

    def git(self, *words: str) -> str:
        """Ask the study's repository."""
        done = self.head.run("git", f"--git-dir={self.home.git}", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def logs(self) -> str:
        """Return the ends of the logs, and what the last run said."""
        found = []
        for path in (self.home.controller_log, self.home.fleet_log):
            with suppress(OSError):
                found.append(f"{path.name}: {self.outside(path).read_text()[-3000:]}")
        found += [f"run: {run.output[-1500:]}" for run in self.runs[-1:]]
        for node in self.nodes:
            for path in node.outside("state/nodes").glob("*/*"):
                if path.name in {"reports.jsonl", "driver.log"}:
                    found.append(f"{node.name} {path.name}: {path.read_text()[-2500:]}")
        return "\n".join(found)
