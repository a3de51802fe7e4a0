"""The harness measures real things, in small: a study without Ray, a loop, a status."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cluster.simulation.course import Course, play
from cluster.simulation.landscape import SECTIONS, load_landscape
from cluster.simulation.setup import Step
from cluster.state.slot_time import SlotTime
from eval.assumptions import Assumptions
from infra.simulations.simulations import Question, simulate
from tests.benchmarks import __main__ as program
from tests.benchmarks import (
    joining,
    landscapes,
    scale,
    sensitivity,
    simulation,
    throughput,
    transport,
    turnaround,
)
from tests.benchmarks.commands import status_figures
from tests.benchmarks.figures import Figure, as_markdown, as_text, at_least, at_most
from tests.benchmarks.peers import optuna_threads, sequential_logs, sequential_loop
from tests.benchmarks.sizes import QUICK
from tests.benchmarks.study_process import Order, Ran, Report
from tests.benchmarks.utilisation import SETTLING_S, overall_utilisation, steady_utilisation
from tests.benchmarks.workshop import Failed, run_study
from tests.chaos.machines import obstacle

TINY = replace(
    QUICK,
    repeats=1,
    command_repeats=1,
    slots=2,
    experiments=6,
    samples_at=(1, 4, 8, 12),
    known=30,
    fleets=((2, 12),),
    ray_fleets=((2, 4),),
    repository_mb=1,
    candidates=2,
)


def test_a_study_is_measured_through_real_worktrees_and_a_real_ledger() -> None:
    figures = {figure.name: figure for figure in throughput.study_figures(TINY, "threads")}
    assert figures["no-op experiments, 2 slots"].median > 1
    costs = [figure for name, figure in figures.items() if "CPU per experiment" in name]
    assert [figure.median > 0 for figure in costs] == [True] * 6
    assert figures["controller's memory after 12"].median > 10


def test_the_status_of_a_study_that_was_filled_is_timed() -> None:
    fresh, stale, *many = status_figures(TINY)
    assert "snapshot 0 events old" in fresh.name
    assert "snapshot 0 events old" not in stale.name
    assert 0 < fresh.median < 60
    assert len(many) == 2


def test_imaginary_workers_run_a_study_over_the_real_queue_to_its_end() -> None:
    found = {figure.name: figure.median for figure in scale.saturated(TINY)}
    what = "2 imaginary workers, 12 experiments"
    assert found[f"{what}: decisions"] > 1
    assert found[f"{what}: queue actor's CPU per experiment"] > 0
    assert found[f"{what}: Valkey's commands per experiment"] > 5
    assert found[f"{what}: the study's git repository per experiment"] > 1
    assert found[f"{what}: controller's memory after 12"] > 10


def test_imaginary_workers_are_actors_of_ray_as_well() -> None:
    found = {figure.name: figure for figure in scale.over_ray(TINY)}
    assert found["2 imaginary workers as Ray's actors: decisions"].median > 0
    completions = found["2 imaginary workers as Ray's actors: complete, p50"]
    assert completions.count >= 4
    assert completions.median > 0


def test_an_imaginary_trial_takes_as_long_as_it_says() -> None:
    report = run_study(Order(experiments=6, slots=2, experiment_s=0.5, workers="imaginary"))
    lasted = [trial.finished_s - trial.started_s for trial in report.trials]
    assert min(lasted) >= 0.5
    assert len(report.fleet.pauses) >= 4
    assert all(0 < pause_ms < 60_000 for _, pause_ms in report.fleet.pauses)
    assert len(report.fleet.calls_ms["complete"]) == len(report.trials)


def test_the_queues_calls_are_timed_beside_so_many_leases() -> None:
    found = {figure.name: figure for figure in scale.lease_figures(12, repeats=3)}
    what = "with 12 leases and as many wishes"
    assert found[f"{what}: heartbeat"].count == 0
    assert len(found[f"{what}: heartbeat"].values) == 3
    assert found[f"{what}: the end of 15 that ran out, each"].median > 0


def test_a_slow_proposer_beside_a_quick_one_has_proposals_of_its_own_judged() -> None:
    order = Order(experiments=8, slots=2, experiment_s=0.1, slow_latency_s=0.2, workers="imaginary")
    report = run_study(order)
    assert len(report.judged_s) == 8


def test_a_candidate_that_is_brought_to_a_node_is_weighed_and_timed() -> None:
    figures = {figure.name: figure for figure in transport.measure(TINY)}
    thin = figures["1 MB repository: a candidate"]
    assert 100 < thin.median < 4096
    assert figures["1 MB repository: all of it, once per node"].median == pytest.approx(1, abs=0.1)
    assert figures["peer: full bundle of a candidate, 1 MB repository"].median > 0.9
    assert all(figure.median > 0 for figure in figures.values())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines")
def test_a_machine_joins_and_leaves_and_joins_again() -> None:
    new, again, ready = joining.measure(TINY)
    assert new.median > ready.median / 2
    assert 0 < ready.median < again.median


def test_without_machines_nothing_is_said_of_joining(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.benchmarks.joining.obstacle", lambda: "only root may make machines")
    assert not list(joining.measure(TINY))
    assert capsys.readouterr().err == "joining: left out, for only root may make machines\n"


def test_what_cannot_be_measured_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> Iterator[Figure]:
        raise Failed("the study did not begin")
        yield  # a generator, as the others are

    monkeypatch.setitem(program.BENCHES, "scale", fail)
    assert program.main(["--only", "scale"]) == 1
    assert capsys.readouterr().err.endswith("scale: the study did not begin\n")


def test_peers_are_measured(tmp_path: Path) -> None:
    assert sequential_loop(tmp_path, rounds=2) > 0
    assert optuna_threads(trials=4, jobs=2) > 0
    assert optuna_threads(trials=4, jobs=2, journal=tmp_path / "journal") > 0


def test_writing_one_bench_leaves_the_tables_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(
        "".join(
            f"<!-- generated: {name} -->\n\nnothing\n\n<!-- end: {name} -->\n"
            for name in program.BENCHES
        )
    )
    slow = Figure(bench="scale", name="how slow", unit="s", values=[3.0], aim=at_most(2.0))
    monkeypatch.setattr(program, "PAGE", page)
    monkeypatch.setitem(program.BENCHES, "scale", lambda _: iter([slow]))

    assert program.main(["--only", "scale", "--write"]) == 0

    written = page.read_text("utf-8")
    assert written.count("nothing") == len(program.BENCHES) - 1
    scale_section = written.partition("<!-- generated: scale -->")[2]
    assert "Missed: how slow." in scale_section
    assert "| scale | how slow | 3 s |" in scale_section


def test_pauses_are_read_off_the_logs_in_the_order_of_time() -> None:
    logs = ["begun at 13.05\nended at 16.0\n", "begun at 10.0\nMETRIC x=1\nended at 13.0\n"]
    assert turnaround.pauses_ms(logs) == pytest.approx([50.0])


def test_a_loop_over_a_script_with_torch_tells_when_it_began_and_ended(tmp_path: Path) -> None:
    (pause,) = turnaround.pauses_ms(sequential_logs(tmp_path, rounds=1, experiment_s=0.01))
    assert pause > 0


def test_only_the_second_that_an_experiment_sleeps_counts_as_busy() -> None:
    # Two slots, back to back, each trial held for 1.25 s of which it slept one.
    trials = tuple(
        Ran(started_s=1.25 * number, finished_s=1.25 * (number + 1))
        for number in range(40)
        for _ in range(2)
    )
    report = Report(finished="", samples=(), trials=trials, judged_s=(), open_s=0.0)
    assert steady_utilisation(report, slots=2) == pytest.approx(0.8, abs=0.01)
    assert overall_utilisation(report, slots=2) == pytest.approx(0.8)
    assert trials[-1].finished_s > 2 * SETTLING_S  # else nothing of it would be steady


def test_a_rate_leaves_out_the_time_in_which_workers_start() -> None:
    report = Report(
        finished="", samples=(), trials=(), judged_s=(1.0, 5.0, 11.0, 12.0, 13.0, 14.0), open_s=10.0
    )
    assert throughput.rate(report) == 1.0
    # So short that one slot had done it all before the second one opened.
    assert throughput.rate(replace(report, open_s=15.0)) == 5 / 13


def test_a_policy_is_told_by_medians_over_its_simulated_studies() -> None:
    question = Question(
        name="published",
        landscape=load_landscape("published"),
        slots=(2,),
        judges=("bayes",),
        hours=2.0,
        seeds=(0, 1, 2),
    )
    (answer,) = simulate(question, lambda _done, _of: None)

    sooner = simulation.sooner("published", answer.cell, answer.summary.speedup, 3)
    figures = (*simulation.figures("published", answer), *sooner)
    found = {f.name.rpartition(": ")[2]: f for f in figures}

    gains = sorted(1000 * course.true for course in answer.courses)
    assert found["true gain"].median == gains[1]
    assert found["true gain"].interval == (gains[0], gains[-1])
    assert found["speed-up"].median == answer.summary.speedup.mean
    assert found["per slot"].median == pytest.approx(found["speed-up"].median / 2)
    assert "(95 %)" in found["speed-up"].cells()[3]
    assert found["speed-up"].cells()[4] == "3"


def test_speed_ups_are_found_in_the_beginning_of_studies_as_in_the_whole() -> None:
    question = Question(
        name="published",
        landscape=load_landscape("published"),
        slots=(16,),
        judges=("greedy",),
        hours=2.0,
        seeds=(0, 1, 2),
    )
    (answer,) = simulate(question, lambda _done, _of: None)
    whole = list(simulation.sooner("published", answer.cell, answer.summary.speedup, 3))

    begun = list(simulation.begun(question, 1.0))

    # But for the machine's load, which is another a moment later.
    assert [replace(each, load=0.0) for each in begun] == [
        replace(each, load=0.0) for each in whole
    ]
    assert begun[0].median > 2  # so it was reached within that hour


def test_the_simulators_speed_is_one_figure_a_study() -> None:
    found = simulation.speed(2, (0, 1), 1.0)
    assert len(found.values) == 2
    assert min(found.values) > 10


def test_each_number_of_the_judge_is_varied_down_and_up_and_alone() -> None:
    usual = sensitivity.AS_IS
    varied: Counter[str] = Counter()
    for judge in sensitivity.variations().values():
        names = _changed(judge, usual)
        names = _changed(judge.assumed, usual.assumed) if names == ["assumed"] else names
        assert len(names) == 1
        assert sum(judge.assumed.weights) == pytest.approx(1)
        varied.update(names)
    assert varied.pop("sizes") == 4  # gains and harms
    assert varied.keys() == {field.name for field in fields(Assumptions)} - {"sizes"} | {
        "price",
        "max_replicates",
    }
    assert set(varied.values()) == {2}


def _changed(one: object, other: object) -> list[str]:
    names = [field.name for field in fields(one)]
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def test_a_variation_is_told_by_its_difference_seed_by_seed() -> None:
    usual = [play(sensitivity.setup(sensitivity.AS_IS, seed)) for seed in (0, 1)]
    gained, false = sensitivity.differences("x", usual, usual)
    assert (gained.values, gained.interval) == ([0.0], (0.0, 0.0))
    assert false.values == [0.0]
    better = [replace(c, steps=(replace(c.steps[-1], true=c.true + 0.001),)) for c in usual]
    gained, _ = sensitivity.differences("x", better, usual)
    assert gained.median == pytest.approx(1.0)


def test_each_parameter_of_a_landscape_is_varied_down_and_up_and_alone() -> None:
    names = [(s.__name__.lower(), name) for s in SECTIONS for name in s.model_fields]
    usual = landscapes.USUAL.model_dump()
    varied: Counter[str] = Counter()
    for landscape in landscapes.variations().values():
        other = landscape.model_dump()
        differ = [f"{s}.{name}" for s, name in names if other[s][name] != usual[s][name]]
        assert len(differ) == 1
        varied.update(differ)
    # Twice 0.42 of small harms would be more than all candidates, and nothing is less than no loss.
    once = {"harms.small_share", "surroundings.losses_per_hour"}
    assert {name for name, times in varied.items() if times == 1} == once
    assert varied.keys() | set(landscapes.ELSEWHERE) == {f"{s}.{name}" for s, name in names}


def test_landscapes_are_told_by_bayes_beyond_greedy_and_by_its_claims() -> None:
    end = Step(at_s=1.0, slot_seconds=1.0, true=0.001, claimed=0.003)
    bayes = Course(
        steps=(end,), experiments=1, passed_over=0, stopped=0, improving=1, time=SlotTime()
    )
    greedy = replace(bayes, steps=(replace(end, true=0.0),))
    gained, gap = landscapes.figures("x", [bayes, bayes], [greedy, greedy])
    assert (gained.median, gap.median) == (pytest.approx(1.0), pytest.approx(2.0))


def test_a_median_is_known_the_better_the_more_values_there_are() -> None:
    assert simulation.median_interval(range(1, 101)) == (40, 61)
    assert simulation.median_interval([3.0]) == (3.0, 3.0)


def test_a_figure_says_whether_its_aim_is_met() -> None:
    rate = Figure(bench="b", name="rate", unit="/s", values=(30, 50, 41), aim=at_least(40), load=1)
    wait = Figure(bench="b", name="wait", unit="s", values=(0.456,), aim=at_most(0.4), load=1)
    assert rate.cells() == (
        "b", "rate", "41.0 /s", "30.0 - 50.0", "3", ">= 40.0", "met", "1.0",
    )  # fmt: skip
    assert wait.cells() == ("b", "wait", "0.456 s", "", "1", "<= 0.4", "missed", "1.0")
    assert as_text([rate, wait]).splitlines()[2].split()[:4] == ["b", "rate", "41.0", "/s"]
    assert "| b | wait | 0.456 s |" in as_markdown([rate, wait])


def test_a_quick_run_is_not_written_to_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    before = program.PAGE.read_text("utf-8")
    with pytest.raises(SystemExit):
        program.main(["--write", "--quick"])
    assert "does not go with --quick" in capsys.readouterr().err
    assert program.PAGE.read_text("utf-8") == before
