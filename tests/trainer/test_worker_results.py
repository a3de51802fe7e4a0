"""What a worker tells of what its trials leave: in time, and when all of it is in its place."""

from dataclasses import dataclass, field

from tests.trainer.worker_bench import TTL_S, Bench, first_in_line
from trainer.ports import CodeAway, Heartbeat
from trainer.trial import Rung, Smoke, TrialSpec


@dataclass
class FakeResults:
    """Notes what it hears, and what is there by then."""

    bench: Bench
    heard: list[str] = field(default_factory=list)
    there: dict[str, list[str]] = field(default_factory=dict)

    def follow(self, run: TrialSpec) -> None:
        assert self.bench.paths.log(run).parent.is_dir()
        of = "" if run.rung is Rung.FULL else f" {run.rung}"
        self.heard.append(f"follow {run.trial}{of}")

    def left(self, trial: TrialSpec) -> None:
        self.heard.append(f"left {trial.trial}")
        kept = self.bench.paths.out(trial)
        self.there[trial.trial] = sorted(each.name for each in kept.glob("*"))

    def close(self) -> None:
        self.heard.append("close")


def test_a_trial_s_output_is_in_its_place_before_it_is_reported(bench: Bench) -> None:
    results = bench.results = FakeResults(bench)
    reported: list[list[str]] = []

    def complete() -> bool:
        reported.append([*results.heard])
        return True

    leave = "echo 1 > $INCUMBENT_OUT/model; echo 'loss: 1'"
    bench.serve(
        bench.lease(leave),
        bench.lease(f"{leave}; exit 1", trial="e2.1"),
        on_reserve=first_in_line,
        on_complete=complete,
    )
    assert "left e1.1" in reported[0]
    assert "left e2.1" in reported[1]
    assert results.there == {"e1.1": ["model"], "e2.1": ["model"]}
    assert results.heard[-1] == "close"


def test_the_log_of_each_run_is_followed(bench: Bench) -> None:
    results = bench.results = FakeResults(bench)
    bench.serve(bench.lease("echo 'loss: 1'", smoke=Smoke(budget_s=0.25)))
    assert results.heard == ["follow e1.1 smoke", "follow e1.1", "left e1.1", "close"]


def test_also_of_a_trial_that_could_not_begin_there_is_something_to_be_told(bench: Bench) -> None:
    results = bench.results = FakeResults(bench)
    bench.code.errors.append(CodeAway("the head does not answer"))
    bench.serve(bench.lease("exit 1"))
    assert results.heard == ["left e1.1", "close"]


def test_of_a_trial_that_is_somebody_else_s_by_now_nothing_is_sent(bench: Bench) -> None:
    results = bench.results = FakeResults(bench)
    script = "touch $INCUMBENT_OUT/a; while :; do sleep 0.01; done"
    bench.serve(bench.lease(script, ttl_s=TTL_S), on_heartbeat=lambda *_: Heartbeat.GONE)
    assert results.heard == ["follow e1.1", "close"]
