"""`incumbent revert`, typed at studies whose trials ended as a test says, without Ray."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest

from cluster.config_file import load_config
from cluster.controller.performer import Performer
from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import catch_up
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Circumstances, StudyPlan
from cluster.state import events as ev
from eval.judge import GreedyJudge
from infra.local.settings import save_settings
from infra.local.study import OpenStudy, opened
from tests.infra.user import CONFIG, PROGRAM, TRAIN, USAGE, User
from tests.trainer.trials import cpu_slot
from trainer.trial import Ending, TrialOutcome, number_of

SLOT = cpu_slot(node="n")


def now() -> datetime:
    return datetime.now(UTC)


def controlled(user: User, study: OpenStudy, values: Mapping[str, float]) -> None:
    """Do what a controller and a slot would; trials of other experiments stay in the queue."""
    config = load_config(user.folder / "incumbent.toml")
    save_settings(study.home, config)
    metric = config.metric.metric()
    epoch = study.ledger.begin_epoch()
    started = ev.ControllerStarted(epoch=epoch, pid=1, node="n")
    study.ledger.append([ev.Draft(id=f"controller/{epoch}", at=now(), event=started)])
    performer = Performer(
        ledger=study.ledger,
        queue=study.queue,
        repository=StudyRepository.open(study.home.git, study="mar5"),
        source=user.folder,
        editable=config.study.editable,
        metric=metric,
        budget_s=1,
        timeout_s=2,
        epoch=epoch,
        clock=now,
    )
    plan = StudyPlan(metric=metric, judge=GreedyJudge(metric=metric), proposers=(), slots=1)
    state = study.state()
    while True:
        while commands := decide(state, plan, Circumstances(now=now())):
            for command in commands:
                performer.perform(command, state)
                state = catch_up(study.ledger, state)
        waiting = [e for e, status in state.open.items() if status == "queued" and e in values]
        if not waiting:
            return
        lease = study.queue.lease(SLOT, now=now(), ttl_s=60)
        assert lease is not None
        outcome = TrialOutcome(ending=Ending.SCORED, value=values[lease.spec.experiment])
        study.queue.complete(SLOT, lease, outcome, now=now())
        state = catch_up(study.ledger, state)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[User, OpenStudy]]:
    """A user with two winners on the branch: e1 changed LR, and e2 DEPTH."""
    user = User.at(tmp_path_factory.mktemp("revert"))
    user.commit({"train.py": TRAIN.replace("DEPTH", "# two\n# three\n# four\nDEPTH", 1)})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    with opened(user.home) as found:
        controlled(user, found, {"e0": 1.0, "e1": 0.9})
        user.done("submit", "--set", "DEPTH=3")
        controlled(user, found, {"e2": 0.8})
        yield user, found


def test_a_merged_experiment_is_taken_out_again_as_one_that_is_measured(study) -> None:
    user, found = study
    done = user.run(PROGRAM, "revert", "e1", "--priority", "7", "--json")
    assert "the study does not run: the next `incumbent run` takes it up" in done.stderr
    [row] = json.loads(done.stdout)
    assert row == {**row, "priority": 7, "hypothesis": "Revert e1: LR 0.1 -> 0.3"}
    controlled(user, found, {"e3": 0.7})
    assert "e3 (kept)" in user.done("show", "e1")
    shown = json.loads(user.done("show", "e3", "--json"))
    assert (shown["status"], shown["reverts"], shown["priority"]) == ("kept", "e1", 7)
    assert "-LR = 0.3" in user.done("diff", "e3")
    assert "Revert e1: LR 0.1 -> 0.3" in user.done("log")
    assert "taken out by e3" in " ".join(user.done("why").split())
    assert "e1 was taken out of the branch by e3 already" in user.refused(USAGE, "revert", "e1")


def test_what_cannot_be_taken_out_is_refused_and_nothing_is_recorded(study) -> None:
    user, found = study
    user.done("submit", "--set", "DEPTH=4")
    user.done("submit", "--set", "DEPTH=5")
    names = sorted(found.state().experiments, key=number_of)
    better, worse = f"e{len(names)}", f"e{len(names) + 1}"
    controlled(user, found, {better: 0.6, worse: 2.0})
    before = found.state()
    said = user.refused(USAGE, "revert", "e2")
    assert "taking e2 out conflicts with " in said
    assert "in train.py; take it out by hand, and hand that in: `incumbent submit --patch" in said
    assert "e0 is the baseline" in user.refused(USAGE, "revert", "e0")
    assert f"{worse} is discarded" in user.refused(USAGE, "revert", worse)
    assert "there is no experiment e99" in user.refused(USAGE, "revert", "e99")
    assert "there is no experiment 2" in user.refused(USAGE, "revert", "2")
    assert found.state() == before


def test_a_second_revert_of_one_patch_is_told_of_the_first(study) -> None:
    user, found = study
    best = found.state().lineage[-1]
    name = found.state().next_experiment
    assert "Take it back" in user.done("revert", best, "-m", "Take it back\udce9")
    controlled(user, found, {})
    said = user.refused(USAGE, "revert", best)
    assert f"{name} takes {best} out already: it is queued" in said
