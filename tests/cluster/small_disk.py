"""A real disk that is small enough to be filled, for a study's repository."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_SIZE = "8m"
_BLOCK = 4096


class SmallDisk:
    """A file system of its own at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def is_full(self) -> bool:
        return self._ballast.exists()

    def fill(self, spare: int = 0) -> None:
        """Take all the room there is, but for some bytes."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(_BLOCK))
            except OSError:
                file.truncate(file.tell() - spare)

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mounted where tests have the study's repository: ask for it before that is made."""
    folder = tmp_path / "study.git"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(folder))
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield SmallDisk(folder)
    subprocess.run(("umount", str(folder)), check=True)
