import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

Promtool = Callable[..., str]


@pytest.fixture
def promtool() -> Promtool:
    """Return what runs promtool and returns all it says; it must be content."""
    found = shutil.which("promtool")
    if found is None and not os.environ.get("CI"):
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    assert found is not None, "CI needs promtool (Debian's package prometheus)"

    def run(*arguments: object, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [found, *map(str, arguments)], input=stdin, capture_output=True, check=False
        )
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, said
        return said

    return run
