"""Chooses the ports of a Ray that other machines reach, once for each study and membership.

A firewall that was told of them then holds, whatever is started again. Knows which blocks are
spoken for on this machine, and looks which ports are free.
"""

import secrets
from pathlib import Path

from cluster.nodes.ray_cluster import PrivateRay
from cluster.nodes.ray_ports import FIRST, LAST, SIZE, RayPorts
from cluster.nodes.reach import obstacle_to_listening
from infra.local.home import StudyHome, StudyProblem, state_directory, studies
from infra.local.node_home import NodeHome, memberships
from trainer.worktree import locked


def reserve(directory: Path, ray: PrivateRay, *, listens_at: int = 0) -> str:
    """See that what belongs to a folder has a block of ports that its Ray can have now.

    Args:
        directory: The study's or the membership's; it has the same block as ever if that is free.
        ray: Its Ray: what lives of it holds the block.
        listens_at: A port that is Ray's besides, and so in no block.

    Returns what to tell a user whose firewall knows another block; "" if there is nothing to tell.
    """
    with locked(state_directory() / "ports.lock"):
        before = RayPorts.kept_in(directory)
        if before is not None and (ray.is_left or _is_fit(before, listens_at)):
            return ""
        chosen = _choose(directory, listens_at)
        chosen.keep_in(directory)
    if before is None:
        return ""
    return (
        f"ports of Ray among {before.first}-{before.last} are taken: from now on it has "
        f"{chosen.first}-{chosen.last}; `incumbent doctor` prints a firewall's new rules"
    )


def _choose(directory: Path, listens_at: int) -> RayPorts:
    """Return a block that is free, if possible one that nobody here had before."""
    homes: list[StudyHome | NodeHome] = [*studies(), *memberships()]
    folders = {home.directory for home in homes} - {directory}
    spoken_for = {RayPorts.kept_in(folder) for folder in folders}
    blocks = [RayPorts(first) for first in range(FIRST, LAST, SIZE)]
    # By chance: other users of the machine have blocks, too, of which nothing is known here.
    secrets.SystemRandom().shuffle(blocks)
    blocks.sort(key=lambda block: block in spoken_for)
    found = next((block for block in blocks if _is_fit(block, listens_at)), None)
    if found is None:
        raise StudyProblem(
            f"Ray needs {SIZE} ports in a row; some are taken in each row from {FIRST} to {LAST}"
        )
    return found


def _is_fit(block: RayPorts, listens_at: int) -> bool:
    is_apart = not block.first <= listens_at <= block.last
    return is_apart and not any(obstacle_to_listening("", port) for port in block.fixed)
