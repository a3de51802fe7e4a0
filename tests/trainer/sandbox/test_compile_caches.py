"""Models that are really compiled in the sandbox, with and without what the baseline compiled."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eval.metric import Goal, Metric
from trainer.compile_caches import CacheSeed
from trainer.environment import Environment
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Slot
from trainer.run_records import Limits, RunReport
from trainer.sandbox.arrange import arrange
from trainer.sandbox.bubblewrap import CACHE
from trainer.supervisor_client import Supervisor
from trainer.trial import CommitId, ExperimentId, SlotId, TrialId, TrialSpec

SLOT = Slot(id=SlotId("cpu-0"), incarnation="a", node="n", device="cpu", device_class="cpu")
PATIENCE_S = 240.0
COMPILE = """
import torch
from torch._dynamo.utils import counters
from torch._inductor import codecache
from torch._inductor.cpp_builder import CppBuilder

build, built = CppBuilder.build, []
CppBuilder.build = lambda builder: (built.append(builder), build(builder))[1]
compiled = torch.compile(lambda x: x.sin() + 1)
print(f"loss: {compiled(torch.zeros(8)).sum():g}")
found = counters["inductor"]
print("hits", found["fxgraph_cache_hit"], "misses", found["fxgraph_cache_miss"])
print("compiler calls:", len(built))
print("headers:", codecache._HEADER_DIR)
"""
QUICKLY = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",  # for one small file, not worth their time
    "TORCHINDUCTOR_VEC_ISA_OK": "1",  # spares five compilations
}


class Bench:
    """A slot whose trials may compile."""

    def __init__(self, research: Any, path: Path, supervisor: Supervisor) -> None:
        self._research = research
        self._supervisor = supervisor
        python = f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin"
        environment = Environment(
            argv=("python", "train.py"),
            variables={"PATH": python, "HOME": "/home/ada", **QUICKLY},
        )
        paths = WorkerPaths(study=path / "study", environments=path / "environments")
        self.base = self.commit("baseline")
        limits = Limits(disk_bytes=20_000_000_000)
        self.seed = CacheSeed.of(SLOT, base=self.base, paths=paths, limits=limits)
        self._materialiser = Materialiser(
            study=path.name,
            slot=SLOT,
            paths=paths,
            environment=environment,
            metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)"),
            code=self,
            sandbox=arrange("bubblewrap", environment=environment, data=(), paths=paths),
            limits=limits,
            seed=self.seed,
        )

    def fetch(self, commit: CommitId) -> Path:
        """See CodeSource."""
        bare: Path = self._research.bare
        return bare

    def commit(self, name: str) -> CommitId:
        return CommitId(self._research.commit({"train.py": f"{COMPILE}\n# {name}\n"}))

    def run(self, commit: CommitId, name: str) -> str:
        """Run a trial as a worker does, and return what it printed."""
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


@pytest.fixture
def bench(research: Any, tmp_path: Path) -> Iterator[Bench]:
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler: there is no g++")
    with closing(Supervisor()) as supervisor:
        yield Bench(research, tmp_path, supervisor)


@pytest.mark.slow
def test_a_compiled_model_starts_from_what_the_baseline_has_compiled(bench: Bench) -> None:
    said = bench.run(bench.base, "e0")
    assert "hits 0 misses 1\n" in said
    assert "compiler calls: 0\n" not in said
    assert f"headers: {CACHE}/" in said  # those would be kept, too
    said = bench.run(bench.commit("candidate"), "e1")
    assert "hits 1 misses 0\ncompiler calls: 0\n" in said
