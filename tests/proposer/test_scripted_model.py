"""The model on paper that whole studies ask: by itself, as a process, over HTTP."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proposer import constants
from proposer.claude import Claude
from proposer.config import ClaudeSource
from proposer.prices import price_of
from proposer.proposal import Task, TaskKind
from proposer.python_knobs import read_python
from tests.proposer.scripted_model import SLIP
from tests.proposer.study import TRAIN, FakePurse, context
from trainer.trial import ExperimentId

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    port = tmp_path / "port"
    command = [sys.executable, "-m", "tests.proposer.messages_server", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ}) as process:
        try:
            deadline = time.monotonic() + 60
            while not port.exists():
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server never said its port"
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port.read_text()}"
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def test_it_brings_one_of_each_kind_and_mends_what_it_is_asked_to(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "read_python_apart", read_python)
    purse = FakePurse()
    source = ClaudeSource(kind="claude", base_url=url, max_tokens=2000)
    price = price_of(source.model, ())
    claude = Claude(source, name="claude", purse=purse, price=price, api_key="k")
    ideas = [claude.propose(context(), 1)[0] for _ in range(4)]
    assert ideas[0].parameters == {"LR": 0.15, "DEPTH": 4}
    assert ideas[1].origin == "c3/0", "c2 had to be mended"
    assert ideas[2].edits["train.py"].endswith(f"print({SLIP})\n")
    assert ideas[3].hypothesis.endswith("by diff")
    task = Task(
        kind=TaskKind.FIX,
        experiment=ExperimentId("e3"),
        hypothesis="use a name",
        problem=f"NameError: name '{SLIP}' is not defined",
        files={"train.py": ideas[2].edits["train.py"]},
    )
    (fix,) = claude.propose(context(task=task), 1)
    assert SLIP not in fix.edits["train.py"]
    assert fix.edits["train.py"] != TRAIN
    assert all(done.usage.cache_read == 1600 for done in purse.settled.values())
