"""The demo as its first user has it, only shorter."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.agreement import verify
from tests.end_to_end.conftest import MakeStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_the_demo_says_whether_it_improved_and_all_its_accounts_agree(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    shell = make_study(name="elsewhere")  # only for its variables and its command
    folder = tmp_path / "digits"
    done = shell.incumbent("demo", str(folder), "-n", "6", "--json", code=None, timeout_s=500)
    facts = json.loads(done.stdout)
    study = make_study(folder=folder, name=facts["study"])
    log, status = study.json("log"), study.json("status")
    verify(study, log, status)
    assert facts["incumbent"] == status["incumbent"]
    # Its training is cut off by the clock: on a busy machine six experiments may find nothing.
    is_better = facts["incumbent"]["score"] < facts["baseline"]["score"]
    assert done.returncode == (0 if is_better else 1)
    assert is_better == (facts["promotions"] > 0)
    proposals = [row for row in log if row["proposer"] == "tuner" and row["kind"] == "proposal"]
    # What went stale before it began went back to the tuner, and was not tried.
    assert sum(row["status"] != "cancelled" for row in proposals) == 6
    # As everybody has it: in the sandbox, and from the second trial of a slot on without waiting.
    (baseline,) = study.json("show", "e0")["trials"][:1]
    assert baseline["outcome"]["sandbox"] == "bubblewrap"
    assert status["starts"]["warm"] >= 1
