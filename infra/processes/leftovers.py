"""Ends what a killed controller left behind: the fleet, Ray, workers, and their trials."""

from pathlib import Path

import psutil

from cluster.nodes.fleet_process import end_in_joined, settings_file
from cluster.nodes.ray_cluster import STOP_S, PrivateRay, wait_until_ended
from infra.local.home import StudyHome
from trainer.process_tree import sweep


def end_leftovers(home: StudyHome) -> bool:
    """End the processes of a study that has no controller; say whether there were any.

    Raises:
        ClusterAway: they may lie in a Ray cluster that does not answer; the rest was ended.
    """
    ray = PrivateRay(runtime=home.runtime(), directory=home.directory, empty=home.empty)
    fleet = _fleet(home.directory)
    for process in fleet:
        process.terminate()
    wait_until_ended(fleet, STOP_S)
    found = ray.find() is not None
    ray.stop()
    swept = sweep(f"{home.id}/")
    joined = end_in_joined(home.directory, log=home.fleet_log)
    return bool(fleet) or found or joined or swept > 0


def _fleet(directory: Path) -> list[psutil.Process]:
    """Return the fleet processes of the study: told by the settings file they were given."""
    wanted = str(settings_file(directory))
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if arguments and arguments[-1] == wanted and "-c" in arguments:
            found.append(process)
    return found
