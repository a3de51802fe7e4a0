"""A machine whose name server never answers runs a study as quickly as any, and asks it nothing."""

import time
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.ledger.ledger import LedgerAway
from tests.chaos.machines import Rack, obstacle
from tests.chaos.study import Study

RESOLVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.77.0.254", 53))
while True:
    data, _ = server.recvfrom(4096)
    at, labels = 12, []
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    print(".".join(labels), flush=True)
"""
OF_RAY = {"metadata.google.internal"}
"""What Ray asks for at its start, to see whether the machine has TPUs."""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines")
def test_no_trial_waits_for_a_name_server(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    with Rack(tmp_path / "outputs") as rack:
        rack.serve(RESOLVER, asked)
        head = rack.add("head")
        head.outside("resolv.conf").write_text("nameserver 10.77.0.254\n")
        study = Study(head=head, experiments=12, seconds=0.1)
        study.create()
        study.start()
        deadline = time.monotonic() + 240
        slowest = 0.0
        while not study.is_over:
            assert time.monotonic() < deadline, study.logs()
            with suppress(LedgerAway):
                trials = [t for e in study.state().experiments.values() for t in e.trials]
                slowest = max([slowest, *(trial.seconds for trial in trials)])
            time.sleep(0.2)
        head.run("getent", "hosts", "who.asks.this", timeout_s=60)  # in vain, and to be heard
    names = asked.read_text().split()
    assert "who.asks.this" in names, "the name server does not hear what is asked"
    assert set(names) - {"who.asks.this"} <= OF_RAY, names
    assert 0.0 < slowest < 5.0
