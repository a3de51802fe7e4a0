"""Whether there is room on the disk for another trial."""

import shutil
from pathlib import Path

LEAST_BYTES = 1 << 30
"""Kept free: a full disk fails every trial and every study on it, whoever filled it."""


def lack_of_room(folder: Path, *, least_bytes: int = LEAST_BYTES) -> str:
    """Return in words that the disk of `folder` is nearly full; empty if it is not."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes >= least_bytes:
        return ""
    return (
        f"the disk is nearly full: {free_bytes / 1e9:.1f} GB free at {folder}, "
        f"{least_bytes / 1e9:.1f} GB are kept"
    )
