"""What a process has done of itself before its script begins, and what it leaves out at its end."""

from pathlib import Path

from tests.trainer.test_warm_start import Tree, same_both_ways

UNTOUCHED = """
import os, torch
print("initialized:", torch.cuda.is_initialized())
print(sorted(os.readlink(f'/proc/self/fd/{n}').partition(':')[0] for n in range(99)
  if os.path.exists(f'/proc/self/fd/{n}')))
"""
TORN_DOWN = """
import decimal
class Last:
    def __del__(self, write=__import__("os").write): write(1, b"taken down\\n")
decimal.last = Last()
print("end")
"""


def test_torch_is_imported_and_its_cuda_left_alone_until_the_script_asks(tmp_path: Path) -> None:
    """Nobody may touch a card that another trial has: no device is open, nothing is set up."""
    result = same_both_ways(
        Tree(tmp_path, {"train.py": UNTOUCHED}), "python", "train.py", preload=("torch",)
    )
    assert result.output.startswith("initialized: False\n")


def test_the_interpreter_is_not_taken_down_module_by_module(tmp_path: Path) -> None:
    """The one wanted difference: with torch it takes its time, which the next trial could have."""
    tree = Tree(tmp_path, {"train.py": TORN_DOWN})
    assert tree.cold("python", "train.py").output == "end\ntaken down\n"
    warm = tree.warm("python", "train.py")
    assert (warm.status, warm.output) == (0, "end\n")
