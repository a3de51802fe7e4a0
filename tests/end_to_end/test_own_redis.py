"""A study in a Redis of the user's own: as a user with a password, and through outages of it."""

import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from infra.local.study import opened
from tests.cluster.redis_tls import TlsServer, certificates, tls
from tests.cluster.redis_user import PASSWORD, restricted
from tests.end_to_end.conftest import BY_HAND, CONFIG, SIGNALS, MakeStudy, Study
from trainer.trial import ExperimentId

__all__ = ["certificates", "tls"]  # the fixtures
pytestmark = [pytest.mark.ray, pytest.mark.slow]

HOLDERS = {"redis.url", "settings.json", "fleet.json"}
PROCESSES = (
    "infra.processes.controller_main",
    "cluster.nodes.fleet",
    "ray::QueueActor",
    "ray::WorkerActor",
)
WAITING = """#!/bin/sh
until [ -e ~/signals/go ]; do sleep 0.1; done
echo "METRIC loss=2"
"""


def in_redis(url: str, config: str = CONFIG) -> str:
    return config.replace("[cluster]", f'[cluster]\nredis = "{url}"')


def test_a_password_is_in_three_files_of_mode_0600_and_nowhere_else(
    make_study: MakeStudy, server_url: str
) -> None:
    study = make_study(config=BY_HAND + in_redis(restricted(server_url)))
    done = study.incumbent("run", "--detach")
    study.wait_for_status("e0", "kept")
    told = study.incumbent("status")
    assert PASSWORD not in done.stdout + done.stderr + told.stdout + told.stderr
    assert PASSWORD not in study.metrics()
    look_at_processes(study)
    found = {path for path in files(study) if PASSWORD.encode() in path.read_bytes()}
    found = {path for path in found if path.name != "incumbent.toml"}  # the test has committed it
    assert {path.name for path in found} == HOLDERS
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in found)


def test_a_study_runs_over_tls(make_study: MakeStudy, tls: TlsServer) -> None:
    study = make_study(config=BY_HAND + in_redis(tls.url(ssl_ca_certs="ca.pem")))
    study.incumbent("run", "--detach")
    study.submit(study.patch("bench.sh", "X=2", "X=1"))
    study.wait_for_status("e1", "kept")
    assert not [line for line in study.processes().values() if "valkey-server" in line]


def look_at_processes(study: Study) -> None:
    lines = []
    for process in psutil.process_iter():
        folder = Path(f"/proc/{process.pid}")
        with suppress(OSError, psutil.Error):
            about = (folder / "cmdline").read_bytes()
            if process in study.processes():
                about += (folder / "environ").read_bytes()
                lines.append(about.decode("utf-8", "replace"))
            assert PASSWORD.encode() not in about
    assert not [word for word in PROCESSES if not any(word in line for line in lines)]


def files(study: Study) -> list[Path]:
    """Return everything that the study wrote, Ray's files included."""
    found = []
    for root in (study.home.directory, study.home.runtime()):
        for folder, _, names in os.walk(root):
            found += [Path(folder, name) for name in names]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def test_a_trial_runs_through_an_outage_of_four_leases(
    make_study: MakeStudy, environment: dict[str, str]
) -> None:
    config = CONFIG.replace("gpus = 0", SIGNALS).replace("slots = 2", "slots = 2\nlease_s = 5")
    study = make_study({"bench.sh": WAITING}, config=BY_HAND + config.replace("= 30", "= 120"))
    signals = Path(environment["HOME"], "signals")
    study.incumbent("run", "--detach")
    study.wait_for_status("e0", "running")
    server = next(p for p, line in study.processes().items() if "valkey-server" in line)
    server.send_signal(signal.SIGSTOP)
    try:
        said = study.incumbent("status", code=1).stderr
        assert "does not answer" in said
        assert "trials go on" in said
        psutil.wait_procs([server], timeout=12)  # it is stopped: so much time passes
        (signals / "go").touch()  # it ends while nobody can take its outcome
        psutil.wait_procs([server], timeout=5)
    finally:
        server.send_signal(signal.SIGCONT)
    study.wait_for_status("e0", "kept")
    baseline = study.state().experiments[ExperimentId("e0")]
    assert {trial.attempt for trial in baseline.trials} == {1}
    assert "TrialLost" not in [name for _, name in baseline.story]


def test_a_fleet_that_is_started_during_an_outage_waits_for_its_end(make_study: MakeStudy) -> None:
    study = make_study(config=BY_HAND + CONFIG)
    study.incumbent("run", "--detach")
    study.wait_for_status("e0", "kept")
    with opened(study.home) as home:
        # What it holds can be read, so that the controller sees that its fleet has died.
        home.client.config_set("min-replicas-to-write", 1)
    kill(study, "cluster.nodes.fleet")
    waits = "takes no writes: NOREPLICAS"
    study.wait("the fleet to wait", lambda: waits in study.home.fleet_log.read_text())
    kill(study, "valkey-server")  # the controller brings it back, as it was at the start
    study.wait("it to be back", lambda: "answers again" in study.home.fleet_log.read_text())
    study.submit(study.patch("bench.sh", "X=2", "X=1"))
    study.wait_for_status("e1", "kept")
    assert study.home.controller_log.read_text().count("it was started again") == 1


def kill(study: Study, name: str) -> None:
    next(process for process, line in study.processes().items() if name in line).kill()
