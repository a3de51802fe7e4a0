"""A model that is really compiled in the sandbox, without and with what the baseline compiled."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tests.trainer.sandbox.compiling import COMPILES, QUICKLY
from tests.trainer.sandbox.sandboxed_slot import SandboxedSlot
from tests.trainer.trials import cpu_slot
from trainer.sandbox.bubblewrap import CACHE
from trainer.supervisor_client import Supervisor

SLOT = cpu_slot()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile takes a C++ compiler: no g++")
def test_a_compiled_model_starts_from_what_the_baseline_has_compiled(tmp_path: Path) -> None:
    with closing(Supervisor()) as supervisor:
        slot = SandboxedSlot(SLOT, tmp_path, supervisor, baseline=COMPILES, variables=QUICKLY)
        said = slot.run(slot.base, "e0", keep_caches=True)
        assert "loss: 8\n" in said
        assert "device: cpu hits: 0 misses: 1\n" in said
        assert "new binaries: 0\n" not in said
        assert f"headers: {CACHE}/" in said  # they would be kept, too
        said = slot.run(slot.commit(f"{COMPILES}# candidate\n"), "e1")
        assert "device: cpu hits: 1 misses: 0\nnew binaries: 0\n" in said
