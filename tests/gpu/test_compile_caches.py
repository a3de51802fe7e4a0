"""Kernels of a compiled model on a real card, in the sandbox: they are compiled once."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tests.gpu.conftest import Bench
from tests.trainer.sandbox.compiling import CompilingSlot
from trainer.gpu import NvmlGpus, device_nodes
from trainer.ports import Slot
from trainer.supervisor_client import Supervisor
from trainer.trial import SlotId


@pytest.mark.skipif(not shutil.which("cc"), reason="Triton takes a C compiler: there is no cc")
def test_a_compiled_model_starts_from_the_seeded_cache(bench: Bench, tmp_path: Path) -> None:
    claim = bench.claim
    slot = Slot(
        id=SlotId(claim.name),
        incarnation="a",
        node="n",
        device=claim.device,
        device_class=claim.device_class,
        gpu_uuids=claim.gpu_uuids,
    )
    devices = device_nodes(claim.gpu_uuids, NvmlGpus())
    with closing(Supervisor()) as supervisor:
        seeded = CompilingSlot(slot, tmp_path, supervisor, devices=devices)
        said = seeded.run(seeded.base, "e0")
        assert "device: cuda hits: 0 misses: 1\n" in said
        assert "new binaries: 0\n" not in said
        said = seeded.run(seeded.commit("candidate"), "e1")
        assert "device: cuda hits: 1 misses: 0\nnew binaries: 0\n" in said
