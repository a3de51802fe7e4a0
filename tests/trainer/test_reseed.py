"""Seeds in a trial's copy of its tree, and what patches do about them."""

import stat
import time
from pathlib import Path

import pytest

from eval.seeds import Reseed, SeedHabit
from trainer.reseed import SeedReader, literals, reseed

PATTERN = r"manual_seed\((\d+)\)"
FIXED = "import torch\ntorch.manual_seed(42)\nLR = 0.1\n"
TAKEN = 'SEED = int(os.environ["INCUMBENT_SEED"])\ntorch.manual_seed(SEED)\nLR = 0.1\n'


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr("trainer.reseed._PATIENCE_S", 60.0)


def test_a_seed_is_written_into_the_file_which_stays_what_it_was(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b"# \xc3\xa9\r\nmanual_seed(42)\r\n")
    script.chmod(0o755)
    (tmp_path / "frozen.py").write_text("manual_seed(42)\n")
    before = script.stat()

    written = reseed(tmp_path, ("train.py", "gone.py"), pattern=PATTERN, seed=3)

    assert written == (Reseed(path="train.py", line=2, old="42", new="3"),)
    assert script.read_bytes() == b"# \xc3\xa9\r\nmanual_seed(3)\r\n"
    after = script.stat()
    assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (before.st_ino, 0o755)
    assert (tmp_path / "frozen.py").read_text() == "manual_seed(42)\n"


def test_nothing_is_written_through_a_link_nor_into_what_is_no_text(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (outside / "a.py").write_text("manual_seed(42)\n")
    (tree / "a.py").symlink_to(outside / "a.py")
    (tree / "lib").symlink_to(outside)
    (tree / "b.py").write_bytes(b"manual_seed(42) \xff")
    assert reseed(tree, ("a.py", "lib/a.py", "b.py"), pattern=PATTERN, seed=3) == ()
    assert (outside / "a.py").read_text() == "manual_seed(42)\n"


def test_a_pattern_that_would_take_hours_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.reseed._PATIENCE_S", 0.3)
    began = time.monotonic()
    assert literals({"train.py": "1" * 40 + "x"}, r"^((?:1|11)+)$") == ()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("before", "after", "habit"),
    [
        (FIXED, FIXED.replace("0.1", "0.2"), None),
        (FIXED, FIXED.replace("42", "1337"), SeedHabit.FIXED),
        (FIXED, FIXED.replace("torch.manual_seed(42)\n", ""), SeedHabit.FREE),
        (FIXED, FIXED + "np.random.seed(3)\n", SeedHabit.FIXED),
        (FIXED, TAKEN, SeedHabit.TAKEN),
        (TAKEN, TAKEN.replace("(SEED)", "(SEED + 7)"), SeedHabit.TAKEN),
        (TAKEN, TAKEN.replace("(SEED)", "(1337)"), SeedHabit.FIXED),
        (TAKEN, TAKEN.replace('int(os.environ["INCUMBENT_SEED"])', "1337"), SeedHabit.FIXED),
    ],
)
def test_a_patch_that_changes_the_seed_is_told_with_what_its_tree_does_then(
    before: str, after: str, habit: SeedHabit | None
) -> None:
    assert SeedReader().change({"train.py": before}, {"train.py": after}) is habit


@pytest.mark.parametrize(
    ("after", "habit"),
    [
        (FIXED.replace("0.1", "0.2"), None),
        (FIXED.replace("42", "1337"), SeedHabit.WRITTEN),
        (FIXED.replace("42", "1337") + "np.random.seed(3)\n", SeedHabit.FIXED),
        (FIXED.replace("torch.manual_seed(42)\n", ""), SeedHabit.FREE),
    ],
)
def test_what_the_pattern_finds_can_be_set_again(after: str, habit: SeedHabit | None) -> None:
    reader = SeedReader(pattern=PATTERN)
    assert reader.habit({"train.py": FIXED}) is SeedHabit.WRITTEN
    assert reader.change({"train.py": FIXED}, {"train.py": after}) is habit


def test_a_pattern_tells_a_seed_that_nobody_else_would_take_for_one() -> None:
    reader = SeedReader(pattern=r"Dice\((\d+)\)")
    before, after = {"train.py": "dice = Dice(4)\n"}, {"train.py": "dice = Dice(5)\n"}
    assert SeedReader().change(before, after) is None
    assert reader.change(before, after) is SeedHabit.WRITTEN


def test_a_command_may_hand_the_seed_on() -> None:
    reader = SeedReader(command="python train.py --seed $INCUMBENT_SEED")
    assert reader.habit({"train.py": FIXED}) is SeedHabit.TAKEN
