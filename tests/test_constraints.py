"""constraints.txt: a fresh environment has what this one has, to the version."""

import re
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
UNPINNED = re.compile(r"incumbent|pip|(?!nvidia-ml-py)(nvidia|cuda|triton)\b.*")
"""Us, what makes an environment, and what torch's build for cards names by version itself."""
PIN = re.compile(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)")


def test_every_package_of_this_environment_is_pinned_by_name_and_version_alone() -> None:
    pins = {}
    for line in CONSTRAINTS.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            found = PIN.fullmatch(line)
            assert found, line
            pins[plain(found[1])] = found[2]
    # Not all of sys.path: importing Ray adds its `thirdparty_files`, packages of its own.
    folders = list({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    installed = distributions(path=folders)
    here = {plain(each.name): each.version.partition("+")[0] for each in installed}
    held = {name: version for name, version in here.items() if not UNPINNED.fullmatch(name)}
    assert {name: pins.get(name) for name in held} == held


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
