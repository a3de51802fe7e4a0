"""What another study proposed comes again, in order, wherever it still fits."""

import pytest

from proposer.hunks import unified
from proposer.proposal import ProposerDone
from proposer.replay import Replay, read_recorded, record
from tests.proposer.study import TRAIN, context
from trainer.trial import ExperimentId


def line(number: int, old: str, new: str) -> str:
    patch = "diff --git a/train.py b/train.py\n" + unified(
        {"train.py": TRAIN}, {"train.py": TRAIN.replace(old, new)}
    )
    return record(
        experiment=ExperimentId(f"e{number}"),
        proposer="claude",
        hypothesis=f"idea {number}",
        category="test",
        patch=patch,
        parameters={},
    )


TEXT = "\n".join(
    [line(1, "LR = 0.1", "LR = 0.2"), line(2, "DEPTH = 4", "DEPTH = 8"), line(3, "math", "cmath")]
)


def test_recorded_proposals_come_in_order_and_a_restart_goes_on_where_it_was() -> None:
    replay = Replay(name="replay", proposals=read_recorded(TEXT))
    one, two = replay.propose(context(), 2)
    assert one.edits == {"train.py": TRAIN.replace("LR = 0.1", "LR = 0.2")}
    assert (one.hypothesis, one.category, one.origin) == ("idea 1", "test", "replay/0")
    assert one.parameters == {"LR": 0.2, "DEPTH": 4}
    assert two.origin == "replay/1"
    again = Replay(name="replay", proposals=read_recorded(TEXT), used=["replay/1", "c7/2"])
    assert [each.origin for each in again.propose(context(), 9)] == ["replay/2"]
    with pytest.raises(ProposerDone, match=r"^all 3 were played$"):
        again.propose(context(), 9)


def test_a_patch_with_ends_of_lines_of_other_kinds_is_one_line_of_the_file() -> None:
    odd = line(1, "LR = 0.1", "LR = 0.2  # \u2028 \x85")
    (proposal,) = Replay(name="r", proposals=read_recorded(f"{odd}\n")).propose(context(), 1)
    assert "LR = 0.2  # \u2028 \x85\n" in proposal.edits["train.py"]


def test_what_does_not_fit_the_incumbent_of_now_is_passed_over_and_counted() -> None:
    replay = Replay(name="replay", proposals=read_recorded(TEXT))
    moved = {"train.py": TRAIN.replace("def loss", "def val_loss")}
    found = replay.propose(context(files=moved), 3)
    assert [each.hypothesis for each in found] == ["idea 1", "idea 3"]
    assert replay.passed_over == 1
    with pytest.raises(ProposerDone, match=r"^all 3 were played, of which 1 did not fit$"):
        replay.propose(context(files=moved), 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"hypothesis": "x"}'])
def test_a_line_that_is_no_proposal_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="line 2 is no recorded proposal"):
        read_recorded(f"{line(1, 'LR = 0.1', 'LR = 0.2')}\n{text}\n")
