"""What nodes still have to send is waited for when a study ends, and not for ever."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.state import events as ev
from cluster.state.experiment import Trial
from cluster.state.state import StudyState
from cluster.transport.last_results import PATIENCE_S, LastResults
from cluster.transport.remote_results import OTHERS_S
from tests.infra.study_factory import Study


@dataclass
class Ending:
    """The end of a study, at which files come, and other things happen, at certain seconds."""

    study: Study = field(default_factory=Study)
    on_their_way: set[str] = field(default_factory=set)
    happens: dict[float, Callable[[], None]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.last = LastResults(
            since=self.study.now,
            is_awaited=self.is_awaited,
            notify=self.said.append,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def is_awaited(self, trial: Trial) -> bool:
        return trial.id in self.on_their_way

    def comes(self, trial: str, at: float) -> None:
        self.on_their_way.add(trial)
        self.happens[at] = lambda: self.on_their_way.remove(trial)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at in [at for at in self.happens if at <= self.now]:
            self.happens.pop(at)()

    def wait(self) -> float:
        """Return for how many seconds it was waited."""
        began = self.now
        self.last.wait(self.look)
        return round(self.now - began)

    def look(self) -> StudyState:
        return self.study.state


def test_what_is_on_its_way_is_waited_for_and_the_user_is_told() -> None:
    end = Ending()
    end.study.baseline(0.5)
    end.study.keep("the last winner", 0.4)
    end.comes("e0.1", at=30)
    end.comes("e1.1", at=100)
    assert end.wait() == 100
    assert end.said == [
        "waiting for what e0.1, e1.1 left on box (`incumbent stop --now` does not wait)",
        "waiting for what e1.1 left on box (`incumbent stop --now` does not wait)",
        "",
    ]


def test_where_everything_is_here_nobody_waits_or_hears_of_it() -> None:
    end = Ending()
    end.study.baseline(0.5)
    assert end.wait() == 0
    assert end.said == []


def test_what_does_not_come_is_given_up_once_when_another_worker_could_have_sent_it() -> None:
    end = Ending()
    for value in range(9):
        end.on_their_way.add(f"{end.study.run(value)}.1")
    assert end.wait() == PATIENCE_S > OTHERS_S
    assert end.said[0].startswith("waiting for what e0.1, e1.1, e2.1 and 6 more left on box ")
    assert end.said[-1] == ""
    assert end.wait() == 0


def test_what_was_missing_before_this_controller_began_is_not_waited_for() -> None:
    before = Study()
    before.baseline(0.5)
    end = Ending(study=before, on_their_way={"e0.1"})
    end.study.now = before.now
    assert end.wait() == 0


def test_a_trial_that_was_lost_leaves_nothing_that_is_waited_for() -> None:
    end = Ending(on_their_way={"e0.1"})
    end.study.start(end.study.propose("unmodified"))
    end.study.lose("e0")
    assert end.wait() == 0


def test_a_node_that_leaves_meanwhile_is_not_waited_for() -> None:
    end = Ending(on_their_way={"e0.1"})
    versions = {"incumbent": "1.0", "python": "3.12.3", "ray": "2.51.1"}
    end.study.tell(ev.NodeJoined(node="box", address="", cpus=2, memory_gb=8.0, **versions))
    end.study.baseline(0.5)
    left = ev.NodeLeft(node="box", reason="fell silent")
    end.happens[20] = lambda: end.study.tell(left)
    assert end.wait() == 20


def test_a_stop_at_once_is_one() -> None:
    end = Ending(on_their_way={"e0.1"})
    end.study.baseline(0.5)
    end.happens[5] = lambda: end.study.tell(ev.StopRequested(now=True))
    assert end.wait() == 5
    assert end.wait() == 0
