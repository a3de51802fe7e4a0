"""A slot in the sandbox, whose trials compile a model: on the processor, or on a card."""

import os
import sys
from collections.abc import Sequence
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
from trainer.sandbox.bubblewrap import CACHE
from trainer.supervisor_client import Supervisor
from trainer.trial import CommitId, ExperimentId, TrialId, TrialSpec

PATIENCE_S = 240.0
_METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)")
_SCRIPT = f"""
from pathlib import Path
import torch
from torch._dynamo.utils import counters
from torch._inductor import codecache

def binaries():
    return {{path for path in Path("{CACHE}").rglob("*") if path.suffix in (".so", ".cubin")}}

before = binaries()
device = "cuda" if torch.cuda.is_available() else "cpu"
compiled = torch.compile(lambda x: x.sin() + 1)
print(f"loss: {{compiled(torch.zeros(8, device=device)).sum():g}}")
found = counters["inductor"]
hits, misses = found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]
print("device:", device, "hits:", hits, "misses:", misses)
print("new binaries:", len(binaries() - before))
print("headers:", codecache._HEADER_DIR)
"""
_QUICKLY = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",  # for one small file, not worth their time
    "TORCHINDUCTOR_VEC_ISA_OK": "1",  # spares five compilations
}


class CompilingSlot:
    """Runs trials of commits that compile the same, one after the other, as a worker does."""

    def __init__(
        self, slot: Slot, folder: Path, supervisor: Supervisor, *, devices: Sequence[str] = ()
    ) -> None:
        self._research = Research.start(folder)
        self._supervisor = supervisor
        path = f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin"
        environment = Environment(
            argv=("python", "train.py"),
            variables={"PATH": path, "HOME": "/home/ada", **_QUICKLY},
        )
        paths = WorkerPaths(study=folder / "study", environments=folder / "environments")
        limits = Limits(disk_bytes=20_000_000_000)
        self.base = self.commit("baseline")
        self._materialiser = Materialiser(
            study=folder.name,
            slot=slot,
            paths=paths,
            environment=environment,
            metric=_METRIC,
            code=self,
            sandbox=arrange(
                "bubblewrap", environment=environment, data=(), paths=paths, devices=devices
            ),
            limits=limits,
            seed=CacheSeed.of(slot, base=self.base, paths=paths, limits=limits),
        )

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        """See trainer.ports.CodeSource."""
        return self._research.bare

    def lack(self) -> str:
        return ""

    def promoted(self) -> frozenset[ExperimentId]:
        return frozenset()

    def commit(self, name: str) -> CommitId:
        """Commit a script that does what all of them do."""
        return CommitId(self._research.commit({"train.py": f"{_SCRIPT}\n# {name}\n"}))

    def run(self, commit: CommitId, name: str) -> str:
        """Run a trial to its good end; return what it printed."""
        spec = TrialSpec(
            trial=TrialId(f"{name}.1"),
            experiment=ExperimentId(name),
            attempt=1,
            commit=commit,
            seed=0,
            budget_s=1.0,
            timeout_s=PATIENCE_S,
        )
        self._supervisor.start(self._materialiser.materialise(spec))
        while not isinstance(report := self._supervisor.poll(PATIENCE_S), RunReport):
            pass
        assert (report.exit_code, report.metric_text) == (0, "8"), report.tail
        self._materialiser.keep_caches(spec)
        self._materialiser.tidy(spec)
        return report.tail
