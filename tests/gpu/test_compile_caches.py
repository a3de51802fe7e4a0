"""Kernels of a compiled model on a real card, in the sandbox: they are compiled once."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tests.gpu.conftest import Bench, slot_of
from tests.trainer.sandbox.compiling import COMPILES, QUICKLY
from tests.trainer.sandbox.sandboxed_slot import SandboxedSlot
from trainer.gpu import NvmlGpus, device_nodes
from trainer.supervisor_client import Supervisor


@pytest.mark.skipif(not shutil.which("cc"), reason="Triton takes a C compiler: there is no cc")
def test_a_compiled_model_starts_from_the_seeded_cache(bench: Bench, tmp_path: Path) -> None:
    with closing(Supervisor()) as supervisor:
        seeded = SandboxedSlot(
            slot_of(bench.claim),
            tmp_path,
            supervisor,
            baseline=COMPILES,
            variables=QUICKLY,
            devices=device_nodes(bench.claim.gpu_uuids, NvmlGpus()),
        )
        said = seeded.run(seeded.base, "e0", keep_caches=True)
        assert "loss: 8\n" in said
        assert "device: cuda hits: 0 misses: 1\n" in said
        assert "new binaries: 0\n" not in said
        said = seeded.run(seeded.commit(f"{COMPILES}# candidate\n"), "e1")
        assert "device: cuda hits: 1 misses: 0\nnew binaries: 0\n" in said
