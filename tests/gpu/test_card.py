"""What only a card can show: whose it is, what it does, and that it is free afterwards."""

from collections.abc import Callable
from pathlib import Path

from tests.gpu.conftest import PATIENCE_S, Bench
from tests.trainer.test_warm_start import ENV, Tree
from trainer.trial import CrashKind, Ending

SEEN = """
import glob, torch
print("nodes:", len(glob.glob("/dev/nvidia[0-9]*")))
print("cards:", torch.cuda.device_count())
print("uuid is", torch.cuda.get_device_properties(0).uuid)
print("loss: 1")
"""
WORK = """
import time, torch
held = torch.zeros(2 << 30, dtype=torch.uint8, device="cuda")
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
end = time.monotonic() + 10
step = 0
while time.monotonic() < end:
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    step += 1
    print(f"step {step} | loss: 1.0")
print("loss: 1")
"""
TOO_MUCH = """
import torch
total = torch.cuda.get_device_properties(0).total_memory
print(torch.zeros(2 * total, dtype=torch.uint8, device="cuda"))
"""
HOLD = """
import time, torch
held = torch.zeros(4 << 30, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("held", flush=True)
time.sleep(600)
"""
SLACK_MB = 64
RELEASE_S = 2.0


def test_a_trial_sees_exactly_its_card(bench: Bench) -> None:
    outcome, log = bench.run(SEEN)
    assert outcome.ending is Ending.SCORED, outcome.tail
    assert (outcome.metrics["cards"], outcome.metrics["nodes"]) == (1, 1)
    assert bench.uuid.removeprefix("GPU-") in log


def test_a_trial_that_works_is_measured(bench: Bench) -> None:
    outcome, _ = bench.run(WORK)
    assert outcome.ending is Ending.SCORED, outcome.tail
    telemetry = outcome.telemetry
    assert telemetry.step_counter == "step"
    assert telemetry.steps_per_s > 0
    gpu = telemetry.gpu
    assert gpu.samples >= 10
    assert 2048 < gpu.vram_peak_mb < bench.card().total_mb
    assert 30 < gpu.utilisation_percent <= 100
    assert 0 < gpu.sm_clock_min_mhz <= 4000
    assert 0 < gpu.sm_clock_mhz <= 4000
    assert 10 < gpu.power_w < 2000
    assert 10 * 10 < gpu.energy_j < 2000 * telemetry.wall_s
    assert 15 < gpu.temperature_max_c < 110
    assert gpu.throttled_s is not None
    assert gpu.stranger_mb == 0
    assert {"start", "prepare", "steps", "evaluate"} <= set(outcome.stages_s)


def test_memory_is_free_once_a_trial_has_ended(
    bench: Bench, until: Callable[[Callable[[], bool], float], bool]
) -> None:
    before = bench.card().used_mb
    outcome, _ = bench.run(WORK)
    assert outcome.ending is Ending.SCORED, outcome.tail
    assert until(lambda: bench.card().used_mb <= before + SLACK_MB, RELEASE_S)


def test_memory_is_free_once_a_trial_was_killed(
    bench: Bench, until: Callable[[Callable[[], bool], float], bool]
) -> None:
    before = bench.card().used_mb
    outcome, log = bench.run(HOLD, timeout_s=30)
    assert outcome.ending is Ending.TIMED_OUT
    assert "held" in log
    assert outcome.telemetry.gpu.vram_peak_mb > 4096
    assert until(lambda: bench.card().used_mb <= before + SLACK_MB, RELEASE_S)


def test_a_process_that_waits_with_torch_holds_no_memory(bench: Bench, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree", {"train.py": SEEN})
    before = bench.card().used_mb
    env = {**ENV, "CUDA_VISIBLE_DEVICES": bench.uuid}
    process, ours = tree.arm("python", "train.py", preload=("torch",), env=env)
    with process, ours:
        assert ours.recv(600) == b"ready\n"
        assert bench.card().used_mb <= before + 1
        ours.sendall(b"!")
        assert b"cards: 1" in process.communicate(timeout=PATIENCE_S)[0]


def test_out_of_gpu_memory_is_told_apart(bench: Bench) -> None:
    outcome, _ = bench.run(TOO_MUCH)
    assert (outcome.ending, outcome.crash) == (Ending.CRASHED, CrashKind.OUT_OF_MEMORY)
