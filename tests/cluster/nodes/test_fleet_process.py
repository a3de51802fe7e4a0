"""The controller's end of the fleet process, without a Ray behind it."""

import socket
from pathlib import Path

import pytest

from cluster.ledger.codec import to_json
from cluster.nodes.fleet_process import ClusterAway, end_in_joined, settings_file
from cluster.nodes.fleet_settings import FleetSettings
from cluster.queue.brief import Terms
from eval.metric import Goal, Metric

SETTINGS = FleetSettings(
    study="s-1",
    name="s",
    url="unix:///none",
    directory="/study",
    runtime="/run",
    environments="/environments",
    empty="/empty",
    address="10.0.0.5:6379",
    slots=1,
    lease_s=30.0,
    terms=Terms(
        base="c" * 40,
        gpu_busy_mb=0.0,
        metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)"),
    ),
)
BY_AN_EARLIER_VERSION = """{"study": "s-1", "name": "s", "base": "cccc", "url": "unix:///none",
"directory": "/study", "runtime": "/run", "environments": "/environments", "empty": "/empty",
"address": "10.0.0.5:6379", "listen": "", "slots": 1, "lease_s": 30.0, "gpu_busy_mb": 0.0,
"trial": {"command": "./bench.sh"}, "metric": {"name": "loss", "goal": "minimize"}, "editable": [],
"score": null, "further": {}, "keep": {"disk_gb": 100.0}, "needed": []}"""


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "written", [to_json(SETTINGS).decode(), BY_AN_EARLIER_VERSION], ids=["ours", "earlier"]
)
def test_a_cluster_that_was_joined_is_known_from_settings_of_any_version(
    tmp_path: Path, nowhere: str, written: str
) -> None:
    assert not end_in_joined(tmp_path, log=tmp_path / "log"), "there are no settings yet"
    settings_file(tmp_path).write_text(written.replace(SETTINGS.address, nowhere))
    with pytest.raises(ClusterAway, match=f"the Ray cluster at {nowhere} does not answer"):
        end_in_joined(tmp_path, log=tmp_path / "log")
    assert settings_file(tmp_path).exists(), "for whoever says `stop` again"
    settings_file(tmp_path).write_text(written.replace(SETTINGS.address, ""))
    assert not end_in_joined(tmp_path, log=tmp_path / "log"), "a Ray of its own is ended elsewhere"
