"""Three machines: one joins while the study runs, one loses its power for good; nothing is lost."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.state import events as ev
from tests.chaos.campaign import Campaign, gather
from tests.chaos.checker import check, of_kind
from tests.chaos.machines import Rack, obstacle
from tests.chaos.study import Study

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines"),
]
EXPERIMENTS = 60


def test_a_study_grows_by_one_machine_and_loses_another(tmp_path: Path) -> None:
    with Rack(tmp_path / "outputs") as rack:
        study = Study(
            head=rack.add("head"), experiments=EXPERIMENTS, slots=1, seconds=3.0, listens=True
        )
        study.create()
        campaign = Campaign(study=study, rack=rack, schedule=())
        study.start()
        campaign.wait_for(1)
        study.incumbent("pause")  # so that it has not gone far before the first machine has joined
        dying = rack.add("node1")
        study.join(dying)
        campaign.wait_for_slots(2)
        study.incumbent("resume")
        campaign.wait_for(10)
        asked_at = time.monotonic()
        study.join(rack.add("node2"))
        campaign.wait_for_slots(3)
        print(f"from join to an open slot: {time.monotonic() - asked_at:.1f} s")
        assert campaign.state.judged < EXPERIMENTS - 15, "it came too late to be of any use"
        wait(campaign, lambda: "node1/cpu-0" in busy(campaign), study)
        dying.power_off()
        while campaign.wait_for(campaign.state.judged + 1):
            pass
        study.incumbent("stop")
        study.leave()
        evidence = gather(study, rack)
    problems = check(evidence)
    assert not problems, f"{problems}\n{study.runs[-1].output}"
    started = {(e.trial, e.attempt): e.slot for _, e in of_kind(evidence.recorded, ev.TrialStarted)}
    results = Counter(
        started[e.trial, e.attempt]
        for _, e in of_kind(evidence.recorded, ev.TrialFinished)
        if (e.trial, e.attempt) in started
    )
    print(f"results by slot: {dict(results)}")
    assert set(results) == {"cpu-0", "node1/cpu-0", "node2/cpu-0"}
    lost = [e for _, e in of_kind(evidence.recorded, ev.TrialLost)]
    assert [e.trial for e in lost if started[e.trial, e.attempt] == "node1/cpu-0"]
    assert [e.node for _, e in of_kind(evidence.recorded, ev.NodeLeft)][:1] == ["node1"]


def busy(campaign: Campaign) -> set[str]:
    """Return the slots on which a trial runs now."""
    campaign.look()
    running = (
        trial
        for name in campaign.state.open
        for trial in campaign.state.experiments[name].trials
        if trial.phase == "running"
    )
    return {trial.slot for trial in running}


def wait(campaign: Campaign, condition: Callable[[], bool], study: Study) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, study.logs()
        time.sleep(0.05)
