"""`incumbent rebuild`: a study whose Redis is lost goes on from what git knows."""

import json
import shutil

import pytest

from cluster.git.mirror import Mirror
from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import load
from cluster.policy.device_classes import is_from_git
from cluster.state import events as ev
from cluster.state import hidden_label_events as hidden
from cluster.state.experiment import FROM_GIT, Status
from cluster.state.final_runs import looks, next_number
from cluster.state.invariants import check
from cluster.state.state import StudyState
from infra.facts.final_facts import tag_message
from infra.local.controller_process import sole_controller
from infra.local.study import opened
from tests.infra.study_factory import scored
from tests.infra.study_of_git import GrownStudy, grow, now, user
from tests.infra.user import CONFIG, FAILURE, USAGE, User
from trainer.trial import CrashKind, Ending, ExperimentId, TrialOutcome

__all__ = ["user"]  # a fixture


@pytest.fixture
def grown(user: User) -> GrownStudy:
    """e0 baseline, e1 discarded, e2 and e3 promoted, e4 crashed; its Redis is lost."""
    grow(user)
    lose(user)
    return GrownStudy(user, counted=10)


def lose(user: User) -> None:
    user.done("stop")
    shutil.rmtree(user.home.redis)
    user.home.redis.mkdir()


def state_of(user: User) -> StudyState:
    with opened(user.home) as study:
        state = load(study.ledger)
    check(state)
    return state


def statuses(state: StudyState) -> list[str]:
    return [state.experiments[ExperimentId(f"e{n}")].status for n in range(len(state.experiments))]


def test_what_git_and_the_table_tell_comes_back(grown: GrownStudy, user: User) -> None:
    facts = json.loads(user.done("rebuild", "--json"))
    state = state_of(user)
    assert statuses(state) == ["kept", "discarded", "kept", "kept", "crashed"]
    assert state.lineage == ("e0", "e2", "e3")
    assert state.incumbent_commit == grown.head
    assert (state.study, state.metric, state.goal) == ("mar5", "loss", "minimize")
    third = state.experiments[ExperimentId("e3")]
    assert (third.base, third.values, third.device_class) == ("e2", (0.05,), FROM_GIT)
    assert (third.proposer, third.hypothesis) == ("user", "LR to 0.0250")
    assert [state.experiments[ExperimentId(e)].values for e in ("e0", "e1")] == [(0.2,), (0.6,)]
    assert state.tasks == ()
    assert (facts["experiments"], facts["promotions"], facts["incumbent"]) == (5, 2, "e3")
    assert (facts["told_by_results"], facts["unknown_ends"], facts["results"]) == (2, 0, "used")


def test_what_nobody_knows_is_said_and_not_made_up(grown: GrownStudy, user: User) -> None:
    user.home.results.unlink()
    said = user.done("rebuild")
    assert "not known: how 2 experiments ended" in said
    assert "not known: what models cost, and their replies" in said
    assert "e3 is measured again before all else" in said
    state = state_of(user)
    assert statuses(state) == ["kept", "lost", "kept", "kept", "lost"]
    assert "the ledger was lost" in state.experiments[ExperimentId("e1")].reason
    assert state.experiments[ExperimentId("e1")].values == ()


def test_the_incumbent_is_measured_again_and_the_study_goes_on(
    grown: GrownStudy, user: User
) -> None:
    user.done("rebuild")
    assert is_from_git(state_of(user))
    grown.more(1)
    state = state_of(user)
    assert state.reference_class == "cpu"
    before = state.experiments[ExperimentId("e3")]
    assert [trial.id for trial in before.controls] == ["e3.2"]
    assert before.device_class == "cpu"
    assert state.lineage == ("e0", "e2", "e3", "e5")
    assert state.incumbent_commit == grown.head
    assert state.experiments[ExperimentId("e5")].delta == pytest.approx(0.05 - 2 * 0.0045)


def test_nothing_is_judged_by_a_score_of_which_nobody_knows_where_it_was_measured(
    grown: GrownStudy, user: User
) -> None:
    user.done("rebuild")
    user.done("submit", "--set", "LR=0.001")
    with opened(user.home) as study:
        grown.counted += 1
        grown.refuse = {"e3.2"}
        grown.settle(study)
        state = load(study.ledger)
    candidate = state.experiments[ExperimentId("e5")]
    assert candidate.status is Status.MEASURED
    assert state.lineage[-1] == "e3"


def test_an_incumbent_that_cannot_be_measured_ends_the_study_with_the_reason(
    grown: GrownStudy, user: User
) -> None:
    user.done("rebuild")
    crash = TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.EXCEPTION, reason="no such module")
    with opened(user.home) as study:
        grown.instead = {"e3.2": crash}
        grown.settle(study)
        state = load(study.ledger)
    assert state.is_failed
    assert "rebuilt from git, cannot be measured: no such module" in state.finished
    grown.instead = {}
    grown.epoch = 0  # another run, once it is mended
    grown.more(1)
    assert state_of(user).reference_class == "cpu"


def test_a_lost_experiment_can_be_retried(grown: GrownStudy, user: User) -> None:
    user.home.results.unlink()
    user.done("rebuild")
    user.done("retry", "e1")
    grown.more(1)
    state = state_of(user)
    assert state.experiments[ExperimentId("e1")].status is Status.DISCARDED


def test_a_baseline_without_promotions_is_measured_anew(user: User) -> None:
    grown = GrownStudy(user)
    with opened(user.home) as study:
        grown.settle(study)
    lose(user)
    assert "e0 is measured again" in user.done("rebuild")
    state = state_of(user)
    assert statuses(state) == ["proposed", "discarded"]
    again = GrownStudy(user, counted=10)
    again.more(1)
    assert statuses(state_of(user)) == ["kept", "discarded", "kept"]


def test_a_folder_that_is_lost_as_well_is_rebuilt_from_the_mirror(
    grown: GrownStudy, user: User
) -> None:
    head = grown.head
    shutil.rmtree(user.home.directory)
    said = user.done("rebuild")
    assert "5 experiments and 2 promotions, from git (results.tsv: there is none)" in said
    assert state_of(user).incumbent_commit == head


@pytest.mark.parametrize("verb", [("run", "--sandbox", "none"), ("submit", "--set", "LR=0.3")])
def test_no_study_begins_anew_over_the_mirror_of_one_that_is_lost(
    grown: GrownStudy, user: User, verb: tuple[str, ...]
) -> None:
    before = user.git("for-each-ref")
    shutil.rmtree(user.home.directory)
    said = user.refused(FAILURE, *verb)
    assert "refs/incumbent/mar5/*" in said
    assert "`incumbent rebuild`" in said
    assert user.git("for-each-ref") == before
    user.write({"incumbent.toml": CONFIG.replace('"mar5"', '"april"')})
    user.done("submit", "--set", "LR=0.3")


def test_a_table_that_does_not_agree_is_left_out(grown: GrownStudy, user: User) -> None:
    text = user.home.results.read_text()
    user.home.results.write_text(text.replace("\t0.050000\t", "\t0.040000\t"))
    assert "does not agree with the branch" in user.done("rebuild")
    assert statuses(state_of(user)) == ["kept", "lost", "kept", "kept", "lost"]


def test_final_runs_are_known_by_their_tags(user: User) -> None:
    grow(user)
    report_finals(user)
    lose(user)
    shutil.rmtree(user.home.directory)  # the mirror has them, too
    assert json.loads(user.done("rebuild", "--json"))["finals"] == 2
    finals = state_of(user).finals
    assert [final.begun.experiment for final in finals] == ["e3", "e2"]
    assert next_number(finals) == 4
    assert looks(finals, "aa") == 1, "the second had no labels to look at"
    first, second = finals
    commit = user.git("rev-parse", "incumbent/mar5/final-1^{commit}").strip()
    assert (first.name, first.begun.commit, second.name) == ("final-1", commit, "final-3")
    assert "e3: what it scored is in its tag, final-1: the ledger was lost" in user.done("status")


def report_finals(user: User) -> None:
    """Have two final runs reported, with one between them that was broken off."""
    with opened(user.home) as study:
        state = load(study.ledger)
        events: list[ev.Event] = []
        for final, name in enumerate(("e3", "e0", "e2"), start=1):
            experiment = state.experiments[ExperimentId(name)]
            commit = experiment.promoted or experiment.commit
            begun = hidden.FinalBegun(
                final=final, experiment=experiment.id, commit=commit, seeds=(1,), settings=""
            )
            ended = hidden.FinalRunEnded(final=final, seed=1, outcome=scored(0.04))
            events += [begun, ended]
        events.append(hidden.FinalReported(final=1, test=(0.05,), labels="aa", looks=1))
        events.append(hidden.FinalReported(final=3))
        study.ledger.append(
            [ev.Draft(id=f"told/{n}", at=now(), event=one) for n, one in enumerate(events)]
        )
        state = load(study.ledger)
        repository = StudyRepository.open(user.home.git, study="mar5")
        for final in state.finals:
            if final.reported:
                repository.tag(final.name, final.begun.commit, tag_message(state, final))
        Mirror(repository, user.folder).sync()


def test_a_ledger_that_is_there_is_left_alone(user: User) -> None:
    grow(user)
    assert "has a ledger already" in user.refused(FAILURE, "rebuild")


def test_a_study_that_runs_is_left_alone(grown: GrownStudy, user: User) -> None:
    with sole_controller(user.home):
        assert "has a controller already" in user.refused(FAILURE, "rebuild")


def test_a_request_to_a_study_without_a_ledger_does_not_stand_in_the_way(
    grown: GrownStudy, user: User
) -> None:
    assert "has lost its data" in user.refused(FAILURE, "pause")
    user.done("rebuild")
    assert state_of(user).lineage == ("e0", "e2", "e3")


def test_run_names_the_ways_back(grown: GrownStudy, user: User) -> None:
    said = user.refused(FAILURE, "run", "--sandbox", "none")
    assert "`incumbent import-ledger FILE`" in said
    assert "`incumbent rebuild`" in said


def test_what_git_lacks_is_named(grown: GrownStudy, user: User) -> None:
    git = ("git", "-C", str(user.home.git))
    user.write({"incumbent.toml": CONFIG.replace('"loss"', '"val_bpb"')})
    assert "was measured by loss" in user.refused(USAGE, "rebuild")
    user.write({"incumbent.toml": CONFIG.replace("[metric]", 'editable = ["x.py"]\n[metric]')})
    assert "[study] editable is another than it was" in user.refused(USAGE, "rebuild")
    user.write({"incumbent.toml": CONFIG.replace('"mar5"', '"april"')})
    assert "there is nothing to rebuild" in user.refused(FAILURE, "rebuild")
    user.write({"incumbent.toml": CONFIG})
    user.run(*git, "update-ref", "-d", "refs/incumbent/mar5/e1")
    assert "the ref of e1 is missing" in user.refused(FAILURE, "rebuild")
    (user.folder / "incumbent.toml").unlink()
    assert "copy the study's here" in user.refused(USAGE, "rebuild")
