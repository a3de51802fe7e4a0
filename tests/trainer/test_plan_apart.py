"""Sources on disk, looked through by a process apart."""

import time
from pathlib import Path

import pytest

from trainer.plan_apart import plan_apart
from trainer.run_records import WarmStart
from trainer.warm_plan import Cold

ARGV = ("python", "train.py")
ENV = {"PATH": "/usr/bin", "A": "é\udc80"}


def planned(tree: Path, source: str) -> WarmStart | Cold:
    (tree / "train.py").write_text(source)
    return plan_apart(ARGV, ENV, cwd="/experiment", tree=tree)


def test_a_script_that_imports_torch_can_wait_with_torch(tmp_path: Path) -> None:
    found = planned(tmp_path, "import torch\n")
    assert isinstance(found, WarmStart)
    assert found.env == ENV
    assert '"preload": ["torch"]' in found.argv[-1]


def test_a_script_without_torch_starts_cold_and_says_why(tmp_path: Path) -> None:
    found = planned(tmp_path, "import json\n")
    assert isinstance(found, Cold)
    assert found.reason.startswith("train.py does not import torch")


@pytest.mark.parametrize(
    "source",
    [
        f"if 0:\n import {'.'.join(['a'] * 100_000)}\nimport torch\n",  # 10 GB, and hours
        f"x = {'-' * 100_000}1\nimport torch\n",
    ],
    ids=["dotted", "unary"],
)
def test_a_source_that_parsers_die_of_costs_a_cold_start_and_no_more(
    tmp_path: Path, source: str
) -> None:
    start = time.monotonic()
    assert isinstance(planned(tmp_path, source), Cold)
    assert time.monotonic() - start < 30  # hours otherwise


@pytest.mark.parametrize("link", ["script", "folder"])
def test_links_are_not_followed(tmp_path: Path, link: str) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    tree.mkdir()
    (outside / "train.py").write_text("import torch\n")
    name = "train.py" if link == "script" else "code"
    (tree / name).symlink_to(outside / "train.py" if link == "script" else outside)
    script = "train.py" if link == "script" else "code/train.py"
    found = plan_apart(("python", script), {}, cwd="/experiment", tree=tree)
    assert found == Cold(reason=f"{script} is no file of the tree")


def test_other_commands_need_no_look_at_sources(tmp_path: Path) -> None:
    found = plan_apart(("sh", "train.sh"), {}, cwd="/experiment", tree=tmp_path / "not there")
    assert isinstance(found, Cold)
