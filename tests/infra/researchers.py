"""Somebody with a research repository at various stages, for tests of what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.study import opened
from tests.infra.user import CONFIG, TRAIN, User

PATCH = """\
--- a/train.py
+++ b/train.py
@@ -1,3 +1,3 @@
-LR = 0.1
+LR = 0.2
 DEPTH = 2
 print(f"loss: {LR * DEPTH}")
"""


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user in an empty folder."""
    return User.at(tmp_path)


@pytest.fixture
def researcher(user: User) -> User:
    """A user in a repository that can be studied."""
    user.commit({"train.py": TRAIN, "prepare.py": "DATA = 1\n"})
    user.write({"incumbent.toml": CONFIG})
    return user


@pytest.fixture
def studied(researcher: User) -> User:
    """A user whose study has one submission, and was never run."""
    researcher.done("submit", "--set", "LR=0.3")
    return researcher


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """The same, shared by tests of what is refused, which changes nothing."""
    user = User.at(tmp_path_factory.mktemp("refusals"))
    user.commit({"train.py": TRAIN, "prepare.py": "DATA = 1\n"})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    with opened(user.home) as study:
        before = study.state(), user.git("status", "--porcelain")
        yield user
        assert (study.state(), user.git("status", "--porcelain")) == before
