"""A study in a Ray cluster that is not its own: it uses it, and leaves nothing in it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.nodes.ray_cluster import PrivateRay, RayProcess
from infra.local.controller_process import find_controller
from tests.end_to_end.conftest import BY_HAND, CONFIG, MakeStudy, Study

OURS = {"QueueActor", "WorkerActor"}
ACCESS = ("RAY_AUTH_", "RAY_ENABLE_")
"""Variables of whoever may join: the token, and the word that Ray is bound to loopback."""
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def users_ray() -> Iterator[tuple[RayProcess, dict[str, str]]]:
    """A Ray that a user has started, with a token, and the variables of a shell that may join."""
    with tempfile.TemporaryDirectory() as place:  # the names of its sockets must be short
        folders = {name: Path(place, name) for name in ("runtime", "directory", "empty")}
        for folder in folders.values():
            folder.mkdir()
        ray = PrivateRay(**folders)
        access = {
            k: v for k, v in ray.environment().items() if k.startswith(("RAY_AUTH_", "RAY_ENABLE_"))
        }
        try:
            yield ray.start(), access
        finally:
            ray.stop()
            folders["runtime"].mkdir(exist_ok=True)


def test_a_study_joins_a_cluster_and_takes_all_of_its_actors_with_it(
    users_ray: tuple[RayProcess, dict[str, str]], make_study: MakeStudy
) -> None:
    ray, access = users_ray
    study = make_study(config=BY_HAND + CONFIG, variables=access)
    study.incumbent("run", "--detach", "--address", ray.address)
    study.wait_for_status("e0", "kept")
    assert actors(ray) == OURS
    study.incumbent("stop")
    study.wait("the actors to leave", lambda: not actors(ray))
    assert ray.is_alive()

    study.incumbent("run", "--detach", "--address", ray.address)
    study.wait("workers", lambda: "WorkerActor" in actors(ray))
    kill_controller(study)
    stopped = study.incumbent("stop")
    assert stopped.stdout.startswith("stopped; ")
    study.wait("the actors to leave", lambda: not actors(ray))
    assert ray.is_alive()
    assert study.incumbent("stop").stdout == "nothing was running\n"


def test_a_cluster_that_has_gone_is_named_when_the_study_is_stopped(
    users_ray: tuple[RayProcess, dict[str, str]], make_study: MakeStudy
) -> None:
    ray, access = users_ray
    study = make_study(config=BY_HAND + CONFIG, variables=access)
    study.incumbent("run", "--detach", "--address", ray.address)
    study.wait_for_status("e0", "kept")
    kill_controller(study)
    for process in psutil.process_iter():
        if _session(process.pid) == ray.pid:
            process.kill()
    stopped = study.incumbent("stop", code=1)
    assert f"the Ray cluster at {ray.address} does not answer" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    Path(stopped.stderr.rpartition("delete ")[2].strip()).unlink()
    assert study.incumbent("stop").stdout == "nothing was running\n"


def kill_controller(study: Study) -> None:
    found = find_controller(study.home)
    assert found is not None
    process = psutil.Process(found.pid)
    process.kill()
    study.wait("it to be dead", lambda: find_controller(study.home) is None)


def actors(ray: RayProcess) -> set[str]:
    """Return the classes of our actors that live in a Ray."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].startswith("ray::") and _session(process.pid) == ray.pid:
            found.add(words[0].removeprefix("ray::").partition(".")[0])
    return found & OURS


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
