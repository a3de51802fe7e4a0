"""Metrics: what is counted, what is served, and that Prometheus' own checker has no complaint."""

import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPConnection

import pytest
from prometheus_client import generate_latest

from cluster.state import events as ev
from infra.metrics.prometheus import MetricsObserver, describe_metrics
from infra.metrics.telemetry_metrics import TelemetryMetrics
from tests.infra.metrics.conftest import Promtool
from tests.infra.study_factory import Study, eventful, measured, metric, scored
from trainer.telemetry import Telemetry
from trainer.trial import ExperimentId, SlotId

NOT_REMEMBERED = "incumbent_slot_idle_seconds_total"


def watched(study: Study) -> MetricsObserver:
    return study.watch(MetricsObserver(metric(), port=-1, clock=lambda: study.now))


def scrape(observer: MetricsObserver) -> dict[str, float]:
    text = generate_latest(observer.registry).decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_a_study_is_counted_as_it_goes() -> None:
    study = Study()
    observer = watched(study)
    study.baseline(0.41)
    study.keep("LR 0.1 -> 0.2", 0.38)
    study.crash("DEPTH 2 -> 0")
    study.start(study.propose("runs"))
    study.propose("waits")
    found = scrape(observer)
    assert found['incumbent_study_info{goal="minimize",metric="val_loss",study="mar5"}'] == 1
    assert found['incumbent_experiments_total{status="kept"}'] == 2
    assert found['incumbent_experiments_total{status="crashed"}'] == 1
    assert found['incumbent_trials_total{ending="scored"}'] == 2
    assert found["incumbent_best_score"] == 0.38
    assert found["incumbent_baseline_score"] == 0.41
    assert (found["incumbent_queue_ready"], found["incumbent_queue_running"]) == (1, 1)
    assert found['incumbent_worker_up{device="cpu",node="box",slot="cpu-0"}'] == 1


def test_every_outcome_of_a_merge_is_counted() -> None:
    study = Study(slots=0)
    observer = watched(study)
    study.tell(*eventful()[2:])
    found = scrape(observer)
    outcomes = ("promoted", "discarded", "failed", "stale", "conflicted", "redundant")
    counts = {name: found[f'incumbent_merges_total{{outcome="{name}"}}'] for name in outcomes}
    assert counts == {
        "promoted": 1,
        "discarded": 1,
        "failed": 1,
        "stale": 1,
        "conflicted": 2,
        "redundant": 2,
    }


def test_a_new_controller_counts_on_from_what_the_old_one_counted() -> None:
    study = Study(slots=0)
    old = watched(study)
    study.tell(*eventful()[2:])
    before = {k: v for k, v in scrape(old).items() if not k.startswith(NOT_REMEMBERED)}
    after = {k: v for k, v in scrape(watched(study)).items() if not k.startswith(NOT_REMEMBERED)}
    assert len(before) > 50
    assert after == pytest.approx(before)


def test_no_counter_ever_falls() -> None:
    study = Study(slots=0)
    observer = watched(study)
    last: dict[str, float] = {}
    for event in eventful()[2:]:
        study.tell(event)
        found = {k: v for k, v in scrape(observer).items() if re.search("_(total|bucket)", k)}
        assert [k for k in last if found[k] < last[k]] == []
        last = found


def test_a_slot_is_busy_or_idle_to_the_second() -> None:
    study = Study(slots=1)
    observer = watched(study)
    study.baseline(0.4)  # 1 s until proposed, 1 s until queued, 1 s until started, then 10 s
    study.now += timedelta(seconds=29)  # 1 s of it had passed with the verdict
    found = scrape(observer)
    assert found['incumbent_slot_busy_seconds_total{slot="cpu-0"}'] == 10
    assert found['incumbent_slot_idle_seconds_total{slot="cpu-0"}'] == 3 + 30


def test_a_running_trial_counts_before_it_ends() -> None:
    study = Study(slots=1)
    observer = watched(study)
    study.start(study.propose("runs"))
    study.now += timedelta(seconds=5)
    assert scrape(observer)['incumbent_slot_busy_seconds_total{slot="cpu-0"}'] == 5


def test_a_slot_that_takes_no_work_is_not_idle() -> None:
    study = Study(slots=0)
    observer = watched(study)
    study.open_slot("gpu-0", note="a stranger holds 20 GB of it")
    study.open_slot("gpu-1")
    study.tell(ev.SlotClosed(slot=SlotId("gpu-1"), reason="gone"), after=7)
    study.now += timedelta(seconds=60)
    found = scrape(observer)
    assert found['incumbent_slot_idle_seconds_total{slot="gpu-0"}'] == 0
    assert found['incumbent_slot_idle_seconds_total{slot="gpu-1"}'] == 7
    assert found['incumbent_worker_up{device="cpu",node="box",slot="gpu-1"}'] == 0


def test_nodes_are_counted_by_how_they_are_and_their_slots_by_what_they_do() -> None:
    study = Study(slots=2)
    observer = watched(study)
    study.baseline(0.4)
    running = study.propose("LR 0.1 -> 0.2")
    study.start(running, slot="cpu-1")
    read = scrape(observer)
    assert read['incumbent_nodes{state="running"}'] == 1
    assert read['incumbent_nodes{state="joined"}'] == 0
    assert read['incumbent_node_slots{node="box",state="busy"}'] == 1
    assert read['incumbent_node_slots{node="box",state="idle"}'] == 1
    idle = read['incumbent_slot_idle_seconds_total{slot="cpu-0"}']
    study.tell(ev.NodeQuarantined(node="box", reason="trials fail there"))
    study.now += timedelta(seconds=60)
    read = scrape(observer)
    assert read['incumbent_nodes{state="running"}'] == 0
    assert read['incumbent_nodes{state="quarantined"}'] == 1
    assert read['incumbent_node_slots{node="box",state="blocked"}'] == 1
    assert read['incumbent_slot_idle_seconds_total{slot="cpu-0"}'] - idle < 60


def test_a_clock_that_is_set_back_lowers_no_counter() -> None:
    study = Study(slots=1)
    observer = watched(study)
    study.start(study.propose("runs"))
    study.now += timedelta(seconds=5)
    before = scrape(observer)
    study.now -= timedelta(seconds=3)
    assert scrape(observer) == before


def test_stages_fall_into_buckets() -> None:
    study = Study()
    observer = watched(study)
    study.baseline(0.4)  # 0.02 s, 9.5 s, 0.005 s
    found = scrape(observer)
    name = "incumbent_trial_stage_seconds"
    assert found[f'{name}_bucket{{le="0.01",stage="materialise"}}'] == 0
    assert found[f'{name}_bucket{{le="0.05",stage="materialise"}}'] == 1
    assert found[f'{name}_bucket{{le="5.0",stage="train"}}'] == 0
    assert found[f'{name}_bucket{{le="10.0",stage="train"}}'] == 1
    assert found[f'{name}_bucket{{le="+Inf",stage="train"}}'] == 1
    assert found[f'{name}_sum{{stage="train"}}'] == 9.5
    assert found[f'{name}_count{{stage="train"}}'] == 1


def test_a_slot_shows_what_its_last_trial_measured() -> None:
    study = Study()
    observer = watched(study)
    study.baseline(0.4)
    study.start(study.propose("hot"))
    hot = measured(steps_per_s=4.5, temperature_max_c=93.0, throttled_s=3.5, vram_peak_mb=2.0)
    study.finish("e1", scored(0.5, telemetry=hot))
    found = scrape(observer)
    slot = '{slot="cpu-0"}'
    assert found[f"incumbent_trial_gpu_temperature_celsius{slot}"] == 93
    assert found[f"incumbent_trial_gpu_memory_bytes{slot}"] == 2 * 1024 * 1024
    assert found[f"incumbent_trial_gpu_utilisation_ratio{slot}"] == 0.97
    assert found[f"incumbent_trial_gpu_power_watts{slot}"] == 600
    assert found['incumbent_trial_steps_per_second{counter="step",slot="cpu-0"}'] == 4.5
    assert found[f"incumbent_gpu_throttled_seconds_total{slot}"] == 3.5
    again = scrape(watched(study))  # by a controller that starts again
    assert {k: again[k] for k in found if "gpu" in k} == {k: found[k] for k in found if "gpu" in k}


def test_the_last_trial_is_the_one_that_ended_last_whatever_the_order() -> None:
    study = Study()
    study.baseline(0.4)
    study.start(study.propose("later"))
    study.finish("e1", scored(0.5, telemetry=measured(steps_per_s=4.5)))
    trials = [study.state.experiments[ExperimentId(e)].trials[0] for e in ("e0", "e1")]
    for order in (trials, trials[::-1]):
        found = TelemetryMetrics()
        for trial in order:
            found.add(trial)
        assert found.samples()["incumbent_trial_steps_per_second"] == {("cpu-0", "step"): 4.5}


def test_what_was_not_measured_is_not_shown() -> None:
    study = Study()
    observer = watched(study)
    study.start(study.propose("without a card"))
    study.finish("e0", scored(0.4, telemetry=Telemetry(wall_s=9.0)))
    assert [name for name in scrape(observer) if "gpu" in name or "steps" in name] == []


@pytest.fixture
def served() -> Iterator[MetricsObserver]:
    study = Study(slots=0)
    observer = study.watch(MetricsObserver(metric(), port=0, clock=lambda: study.now))
    study.tell(*eventful()[2:])
    yield observer
    observer.close()


def test_metrics_are_served_on_the_loopback_address_until_closed(served: MetricsObserver) -> None:
    address = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/metrics", served.address)
    assert address is not None
    connection = HTTPConnection("127.0.0.1", int(address[1]), timeout=30)
    connection.request("GET", "/metrics")
    assert b"incumbent_best_score 0.2\n" in connection.getresponse().read()
    connection.close()
    served.close()
    assert served.address == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address[1])), timeout=30)


def test_what_is_served_is_what_is_described(served: MetricsObserver) -> None:
    text = generate_latest(served.registry).decode()
    types = dict(re.findall(r"# TYPE (\S+) (\S+)", text))
    helps = dict(re.findall(r"# HELP (\S+) (.*)", text))
    assert types == {described.name: described.type for described in describe_metrics()}
    assert helps == {described.name: described.help for described in describe_metrics()}
    for described in describe_metrics():
        found = re.search(rf"^{described.name}(?:_bucket)?(?:\{{(.*)\}})? ", text, re.MULTILINE)
        assert found is not None, described.name
        labels = set(re.findall(r'(\w+)="', found[1] or "")) - {"le"}
        assert labels == set(described.labels)


def test_a_taken_port_harms_nothing(served: MetricsObserver, caplog: object) -> None:
    port = int(served.address.split(":")[2].split("/")[0])
    second = MetricsObserver(metric(), port=port)
    assert second.address == ""
    assert "is not served" in caplog.text
    second.close()


def test_prometheus_own_checker_is_content(served: MetricsObserver, promtool: Promtool) -> None:
    assert promtool("check", "metrics", stdin=generate_latest(served.registry)) == ""
