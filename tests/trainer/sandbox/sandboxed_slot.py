"""A slot in the sandbox, whose trials are scripts of a test: on the processor, or on a card."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.metric import Goal, Metric
from tests.trainer.conftest import Research
from trainer.compile_caches import CacheSeed
from trainer.environment import Environment
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Slot
from trainer.run_records import Limits, RunReport
from trainer.sandbox.arrange import arrange
from trainer.supervisor_client import Supervisor
from trainer.trial import CommitId, ExperimentId, TrialId, TrialSpec

PATIENCE_S = 240.0
METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)")


class SandboxedSlot:
    """Runs trials of commits, one after the other, as a worker does.

    `baseline` is the script of the base commit, which the interpreter of the tests runs.
    """

    def __init__(
        self,
        slot: Slot,
        folder: Path,
        supervisor: Supervisor,
        *,
        baseline: str = "",
        devices: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._research = Research.start(folder)
        self._supervisor = supervisor
        path = f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin"
        environment = Environment(
            argv=("python", "train.py"),
            variables={"PATH": path, "HOME": "/home/ada", **(variables or {})},
        )
        self._paths = WorkerPaths(study=folder / "study", environments=folder / "environments")
        limits = Limits(disk_bytes=20_000_000_000)
        self.base = self.commit(baseline)
        self._materialiser = Materialiser(
            study=folder.name,
            slot=slot,
            paths=self._paths,
            environment=environment,
            metric=METRIC,
            code=self,
            sandbox=arrange(
                "bubblewrap", environment=environment, data=(), paths=self._paths, devices=devices
            ),
            limits=limits,
            seed=CacheSeed.of(slot, base=self.base, paths=self._paths, limits=limits),
        )

    @property
    def mark_prefix(self) -> str:
        """With this begins the mark of every process of the slot's trials."""
        return self._materialiser.mark_prefix

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        """See trainer.ports.CodeSource."""
        return self._research.bare

    def lack(self) -> str:
        return ""

    def promoted(self) -> frozenset[ExperimentId]:
        return frozenset()

    def commit(self, script: str) -> CommitId:
        return CommitId(self._research.commit({"train.py": script}))

    def start(self, commit: CommitId, name: str, *, timeout_s: float = PATIENCE_S) -> TrialSpec:
        """Let the supervisor begin a trial; nothing waits for its end."""
        spec = TrialSpec(
            trial=TrialId(f"{name}.1"),
            experiment=ExperimentId(name),
            attempt=1,
            commit=commit,
            seed=0,
            budget_s=1.0,
            timeout_s=timeout_s,
        )
        self._supervisor.start(self._materialiser.materialise(spec))
        return spec

    def end(self, spec: TrialSpec, *, keep_caches: bool = False) -> str:
        """Clear away what an ended trial has left; return all that it printed."""
        if keep_caches:
            self._materialiser.keep_caches(spec)
        self._materialiser.tidy(spec)
        return self._paths.log(spec).read_text()

    def run(self, commit: CommitId, name: str, *, keep_caches: bool = False) -> str:
        """Run a trial to its good end; return what it printed."""
        spec = self.start(commit, name)
        while not isinstance(report := self._supervisor.poll(PATIENCE_S), RunReport):
            pass
        said = self.end(spec, keep_caches=keep_caches and report.exit_code == 0)
        assert report.exit_code == 0, said
        return said
