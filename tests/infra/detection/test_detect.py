"""Looking at repositories: what is found, where from, and what is left to ask."""

import re
import runpy
from pathlib import Path

import pytest

from cluster.config import StudyConfig
from cluster.config_file import ConfigError, load_config
from eval.metric import MetricReader
from infra.detection.config_writer import render
from infra.detection.detect import Detected, Finding, detect, study_name
from tests.infra.autoresearch_repository import create_autoresearch_repository


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def looked_at(folder: Path, files: dict[str, str], *, has_gpu: bool = True) -> Detected:
    return detect(write(folder, files), has_gpu=has_gpu)


def finding(detected: Detected, section: str, key: str) -> Finding:
    (found,) = [f for f in detected.findings if (f.section, f.key) == (section, key)]
    return found


def value(detected: Detected, section: str, key: str) -> object:
    found = [f.value for f in detected.findings if (f.section, f.key) == (section, key)]
    return found[0] if found else None


def written(folder: Path, detected: Detected) -> StudyConfig:
    path = folder / "incumbent.toml"
    path.write_text(render(detected), encoding="utf-8")
    return load_config(path)


def read_from(config: StudyConfig, line: str) -> str | None:
    reader = MetricReader(config.metric.metric())
    reader.feed(line)
    return reader.text


AUTORESEARCH = {
    "pyproject.toml": '[project]\nname = "research"\ndependencies = ["torch==2.9.1", "kernels"]\n',
    "uv.lock": "version = 1\n",
    "program.md": "The goal is simple: get the lowest val_bpb.\n",
    "prepare.py": """
import argparse, os
import torch
TIME_BUDGET = 300        # seconds
CACHE_DIR = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")
DATA_DIR = os.path.join(CACHE_DIR, "data")
def evaluate(model):
    return torch.zeros(1, device="cuda")
if __name__ == "__main__":
    print(f"Cache directory: {CACHE_DIR}")
""",
    "train.py": """
import torch, time
from kernels import get_kernel
flash = get_kernel("owner/flash")
from prepare import TIME_BUDGET, evaluate
device = torch.device("cuda")
DEPTH = 8
print(f"Time budget: {TIME_BUDGET}s")
while True:
    print(f"\\rstep {1:05d} ({2:.1f}%) | loss: {3:.6f} | remaining: {4:.0f}s    ", end="")
print("---")
print(f"training_seconds: {time.time():.1f}")
print(f"val_bpb:          {evaluate(None):.6f}")
print(f"peak_vram_mb:     {torch.cuda.max_memory_allocated():.1f}")
print(f"depth:            {DEPTH}")
""",
}

ECLIP = {
    "run.sh": "docker run --rm --gpus device=0 image  # parses '>>> val_metric'\n",
    "prepare.py": "from pathlib import Path\ndef evaluate(model):\n    return 0\n",
    "train.py": """
import timm, torch
from transformers import AutoModel
from prepare import evaluate
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
backbone = AutoModel.from_pretrained("distilbert-base-uncased")
print(f"    val mean_rank: {1:.2f} | R@1: {2:.4f}")
print(f"\\n>>> val_metric (mean_rank, lower is better): {evaluate(backbone):.4f}")
print(f">>> peak_memory_gb: {3:.2f}")
""",
}

SCRIPT = {
    "run.sh": """#!/bin/bash
TIME_BUDGET=20
gcc -O2 src/sort.c -o sort
python bench.py ./sort "$HOME/.cache/numbers"
echo "METRIC throughput=1.5"
""",
    "src/sort.c": "int main(void) { return 0; }\n",
    "bench.py": "print('METRIC seconds=3')\n",
}


def test_a_clone_of_autoresearch_needs_no_editing(tmp_path: Path) -> None:
    detected = looked_at(tmp_path / "mar5", AUTORESEARCH, has_gpu=False)
    assert detected.questions == ()
    config = written(tmp_path, detected)
    assert config.study.name == "mar5"
    assert config.study.editable == ("train.py",)
    assert config.study.instructions == "program.md"
    assert (config.metric.name, config.metric.goal) == ("val_bpb", "minimize")
    assert config.metric.pattern == ""
    assert config.trial.command == "uv run train.py"
    assert (config.trial.budget_s, config.trial.timeout_s) == (300, 600)
    assert config.trial.gpus == 1
    assert config.trial.data == ("~/.cache/huggingface", "~/.cache/autoresearch")
    assert config.trial.setup == "uv run prepare.py"
    assert config.trial.environment == "uv"


def test_every_assumption_says_where_it_comes_from(tmp_path: Path) -> None:
    detected = looked_at(tmp_path, AUTORESEARCH)
    assert finding(detected, "metric", "name").why == "train.py:13"
    assert finding(detected, "metric", "goal").why == "program.md: 'lowest val_bpb'"
    assert finding(detected, "trial", "command").why == "uv.lock"
    assert finding(detected, "trial", "budget_s").why == "prepare.py:4 TIME_BUDGET"
    assert finding(detected, "trial", "data").why == "train.py:4, prepare.py:5"
    assert all(item.why for item in detected.findings)
    for line in render(detected).splitlines():
        assert "=" not in line.partition("#")[0] or "  # " in line


def test_what_is_only_shown_is_right_once_it_is_taken(tmp_path: Path) -> None:
    text = render(looked_at(tmp_path, AUTORESEARCH))
    _, mark, shown = text.partition("# [[proposer]]")
    assert mark
    taken = text.replace(mark + shown, re.sub(r"^# ", "", mark + shown, flags=re.MULTILINE))
    (tmp_path / "incumbent.toml").write_text(taken, encoding="utf-8")
    config = load_config(tmp_path / "incumbent.toml")
    assert [source.kind for source in config.proposer] == ["claude", "tuner"]
    assert config.limits.hours == 8


def test_the_marked_line_of_eclip_is_read_as_it_is_printed(tmp_path: Path) -> None:
    detected = looked_at(tmp_path / "eclip", ECLIP)
    config = written(tmp_path, detected)
    assert (config.metric.name, config.metric.goal) == ("mean_rank", "minimize")
    line = ">>> val_metric (mean_rank, lower is better): 157.4300"
    assert read_from(config, line) == "157.4300"
    assert read_from(config, ">>> peak_memory_gb: 3.10") is None
    assert config.trial.command == "python train.py"
    assert config.trial.data == ("~/.cache/huggingface",)
    assert config.trial.setup == ""


def test_a_shell_script_that_prints_a_metric_is_run_and_what_it_measures_is_editable(
    tmp_path: Path,
) -> None:
    config = written(tmp_path, looked_at(tmp_path / "sorting", SCRIPT))
    assert config.trial.command == "bash run.sh"
    assert config.study.editable == ("src/sort.c",)
    assert (config.metric.name, config.metric.goal) == ("throughput", "maximize")
    assert read_from(config, "METRIC throughput=1.5") == "1.5"
    assert config.trial.budget_s == 20
    assert config.trial.timeout_s == 80
    assert config.trial.gpus == 0
    assert config.trial.data == ("~/.cache/numbers",)


def test_a_script_alone_is_its_own_editable_file(tmp_path: Path) -> None:
    files = {"tune me.sh": "SIZE=4\nprintf 'METRIC error=%s\\n' \"$((SIZE * 2))\"\n"}
    config = written(tmp_path, looked_at(tmp_path / "alone", files))
    assert config.study.editable == ("tune me.sh",)
    assert config.trial.command == "bash 'tune me.sh'"
    assert (config.metric.name, config.metric.goal) == ("error", "minimize")


def test_the_script_is_run_where_only_it_prints_the_metric_of_train_py(tmp_path: Path) -> None:
    files = {
        "train.py": "print('done')\n",
        "bench.sh": 'python train.py\necho "METRIC accuracy=$(tail -1 log)"\n',
    }
    config = written(tmp_path, looked_at(tmp_path / "both", files))
    assert config.trial.command == "bash bench.sh"
    assert config.study.editable == ("train.py",)


def test_the_fixture_repository_round_trips_and_prints_what_was_found(tmp_path: Path) -> None:
    repository = create_autoresearch_repository(tmp_path / "autoresearch_cpu")
    detected = detect(repository, has_gpu=True)
    assert detected.questions == ()
    config = written(tmp_path, detected)
    assert (config.metric.name, config.metric.goal) == ("val_bpb", "minimize")
    assert config.trial.command == "uv run train.py"
    assert config.trial.setup == "uv run prepare.py"
    assert (config.trial.budget_s, config.trial.gpus) == (0.5, 0)
    assert config.trial.data == ("~/.cache/autoresearch-cpu",)


@pytest.mark.parametrize(
    ("statement", "name", "goal"),
    [
        ('print(f"val_loss: {x:.4f}")', "val_loss", "minimize"),
        ('print(f"val_loss:{x}")', "val_loss", "minimize"),
        ('print(f"val_loss={x}")', "val_loss", "minimize"),
        ('print(f"  val_loss = {x}")', "val_loss", "minimize"),
        ('print("val_loss:", x)', "val_loss", "minimize"),
        ('print("val_loss: %.3f" % x)', "val_loss", "minimize"),
        ('print("val_loss: {:.3f}".format(x))', "val_loss", "minimize"),
        ('print("val_loss: " + str(x))', "val_loss", "minimize"),
        ('sys.stdout.write(f"val_loss: {x}\\n")', "val_loss", "minimize"),
        ('print(f"epoch 3\\nval_acc: {x}, loss {x}")', "val_acc", "maximize"),
        ('print(f"Validation accuracy: {x:.2f}%")', "Validation_accuracy", "maximize"),
        ('print(f">>> perplexity: {x}")', "perplexity", "minimize"),
        ('print(f"METRIC f1={x}")', "f1", "maximize"),
        ('print(f">>> val_metric (R2 of fit, higher is better): {x}")', "R2_of_fit", "maximize"),
    ],
)
def test_the_pattern_that_is_written_reads_what_the_statement_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], statement: str, name: str, goal: str
) -> None:
    files = {"train.py": f"import sys\nx = 0.25\n{statement}\n"}
    config = written(tmp_path, looked_at(tmp_path / "study", files))
    assert (config.metric.name, config.metric.goal) == (name, goal)
    runpy.run_path(str(tmp_path / "study" / "train.py"))
    read = [read_from(config, line) for line in capsys.readouterr().out.splitlines()]
    assert [float(text) for text in read if text] == [0.25]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["train_loss", "val_loss"], "val_loss"),
        (["train_loss", "test_acc"], "test_acc"),
        (["test_loss", "valid_loss"], "valid_loss"),
        (["total_seconds", "training_seconds", "accuracy"], "accuracy"),
        (["val_loss", "val_accuracy"], "val_loss"),
        (["device", "epoch", "mse"], "mse"),
    ],
)
def test_of_several_lines_the_one_that_judges_is_taken(
    tmp_path: Path, lines: list[str], expected: str
) -> None:
    text = "x = 1\n" + "".join(f'print(f"{name}: {{x}}")\n' for name in lines)
    assert value(looked_at(tmp_path, {"train.py": text}), "metric", "name") == expected


@pytest.mark.parametrize(
    "document",
    [
        {"program.md": "Maximise `zork`.\n"},
        {"program.md": "Judge by zork (higher is better).\n"},
        {"README.md": 'x\n    grep "^zork:" run.log\nThe highest zork wins.\n'},
    ],
)
def test_what_documents_say_of_the_metric_is_heeded(
    tmp_path: Path, document: dict[str, str]
) -> None:
    script = {"train.py": 'x = 1\nprint(f"val_loss: {x}")\nprint(f"zork: {x}")\n'}
    detected = looked_at(tmp_path, {**script, **document})
    assert value(detected, "metric", "name") == "zork"
    assert value(detected, "metric", "goal") == "maximize"


def test_an_earlier_table_of_results_names_the_metric(tmp_path: Path) -> None:
    files = {
        "train.py": 'x = 1\nprint(f"val_loss: {x}")\nprint(f"zork_loss: {x}")\n',
        "results.tsv": "commit\tzork_loss\tmemory_gb\tstatus\tdescription\n",
    }
    assert value(looked_at(tmp_path, files), "metric", "name") == "zork_loss"


def test_a_direction_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    files = {"train.py": 'x = 1\nprint(f"METRIC zork={x}")\n'}
    detected = looked_at(tmp_path / "zork", files)
    assert [(q.section, q.key) for q in detected.questions] == [("metric", "goal")]
    with pytest.raises(ConfigError, match=r"\[metric\] goal: is missing"):
        written(tmp_path, detected)
    text = render(detected).replace('# goal = "minimize"', 'goal = "maximize"')
    (tmp_path / "incumbent.toml").write_text(text)
    assert load_config(tmp_path / "incumbent.toml").metric.goal == "maximize"


@pytest.mark.parametrize(
    ("files", "asked", "words"),
    [
        ({"train.py": "print('hello')\n"}, ["name", "goal"], "in train.py"),
        ({"train.py": "print(f'device: {1}')\n"}, ["name", "goal"], "in train.py"),
        ({"train.py": "def (:\n"}, ["name", "goal"], "not valid Python"),
        ({"run.sh": "make\n"}, ["name", "goal"], "in run.sh"),
        ({"notes.md": "x"}, ["editable", "name", "goal", "command"], "no train.py"),
    ],
)
def test_what_cannot_be_found_is_asked_at_its_place(
    tmp_path: Path, files: dict[str, str], asked: list[str], words: str
) -> None:
    detected = looked_at(tmp_path / "empty", files)
    assert [question.key for question in detected.questions] == asked
    text = render(detected)
    assert words in text
    for question in detected.questions:
        text = text.replace(f"# {question.key} = ", f"{question.key} = ")
    (tmp_path / "incumbent.toml").write_text(text)
    assert load_config(tmp_path / "incumbent.toml").metric.name == "val_loss"


CUDA = 'import torch\ndevice = torch.device("cuda")\n'
EITHER = 'import torch\ndevice = "cuda:0" if torch.cuda.is_available() else "cpu"\n'


@pytest.mark.parametrize(
    ("text", "with_gpu", "without"),
    [
        (CUDA, 1, 1),
        ("model = model.cuda()\n", 1, 1),
        ("import torch\nassert torch.cuda.is_available()\n", 1, 1),
        (EITHER, 1, 0),
        ("from transformers import Trainer\n", 1, 0),
        ("import sklearn  # no cuda here\n", 0, 0),
    ],
)
def test_a_gpu_is_asked_for_where_the_code_needs_one_or_can_use_one(
    tmp_path: Path, text: str, with_gpu: float, without: float
) -> None:
    write(tmp_path, {"train.py": text})
    assert value(detect(tmp_path, has_gpu=True), "trial", "gpus") == with_gpu
    assert value(detect(tmp_path, has_gpu=False), "trial", "gpus") == without


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import os\np = os.path.expanduser("~/.cache/x/data.bin")\n', "~/.cache/x/data.bin"),
        ('from pathlib import Path\np = Path.home() / ".cache" / "x"\n', "~/.cache/x"),
        ('from pathlib import Path\np = Path("~/data").expanduser() / "x"\n', "~/data/x"),
        ('import os\nH = os.environ["HOME"]\np = f"{H}/.cache/x"\n', "~/.cache/x"),
        ('import os\np = os.environ.get("X_DATA", "~/.cache/x")\n', "~/.cache/x"),
        ('A = "~/.cache/x"\nB = A + "/b"\nC = f"{A}/c"\n', "~/.cache/x"),
        ("import torch\nm = torch.hub.load('a', 'b')\n", "~/.cache/torch"),
        ("from datasets import load_dataset\nd = load_dataset('x')\n", "~/.cache/huggingface"),
        ("import os\nos.environ['HF_HOME'] = os.path.expanduser('~/hf')\nA.from_pretrained(1)\n",
         "~/hf"),
        ('print("~/.cache/x is missing")\np = "~/.cache"\nq = "~/../x"\n', None),
        ('P = P / "x"\nq = P\n', None),
    ],
)  # fmt: skip
def test_data_and_model_caches_are_those_that_the_code_names(
    tmp_path: Path, text: str, expected: str | None
) -> None:
    found = value(looked_at(tmp_path, {"train.py": text}), "trial", "data")
    assert found == ((expected,) if expected else None)


IN_CLASS = """
import os
class Hyperparameters:
    max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 240.0))
"""
AS_OPTION = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-t", "--time-limit", type=float, default=90)
"""


@pytest.mark.parametrize(
    ("text", "budget_s", "timeout_s"),
    [
        ("TIME_BUDGET = 300\n", 300, 600),
        ("TIME_BUDGET = 5 * 60\n", 300, 600),
        ("TIME_BUDGET_MINUTES: float = 2\n", 120, 240),
        ('import os\nB = float(os.environ.get("INCUMBENT_BUDGET_S", "3"))\n', 3, 63),
        ("TIME_BUDGET = compute()\nMAX_SECONDS = 100\n", 100, 200),
        ("TIME_BUDGET = 0\n", 300, 600),
        ("time_budget = 120\n", 120, 240),
        ("max_train_seconds = 120\n", 120, 240),
        ("MAX_TRAINING_MINUTES = 10\n", 600, 1200),
        (IN_CLASS, 240, 480),
        (AS_OPTION, 90, 180),
        ("def main():\n    s = os.environ.get('INCUMBENT_BUDGET_S', 80)\n", 80, 160),
        ("training_time = 7\nmax_time = 7\nMAX_AUDIO_SECONDS = 7\nMAX_TIME_MS = 7\n", 300, 600),
        ("BATCH = 8\n", 300, 600),
    ],
)
def test_the_time_budget_is_the_constant_that_says_so(
    tmp_path: Path, text: str, budget_s: float, timeout_s: float
) -> None:
    detected = looked_at(tmp_path, {"train.py": text})
    assert value(detected, "trial", "budget_s") == budget_s
    assert value(detected, "trial", "timeout_s") == timeout_s


@pytest.mark.parametrize(
    ("files", "command", "environment"),
    [
        ({}, "python train.py", "current"),
        ({"uv.lock": ""}, "uv run train.py", "uv"),
        ({"pyproject.toml": "[project]\nname = 'x'\n"}, "uv run train.py", "uv"),
        ({"pyproject.toml": "[tool.ruff]\n"}, "python train.py", "current"),
        ({"pyproject.toml": "[project\n"}, "python train.py", "current"),
    ],
)
def test_uv_runs_what_is_a_project(
    tmp_path: Path, files: dict[str, str], command: str, environment: str
) -> None:
    detected = looked_at(tmp_path, {"train.py": "", **files})
    assert value(detected, "trial", "command") == command
    assert value(detected, "trial", "environment") == environment


@pytest.mark.parametrize("name", [".venv", "venv", "env"])
@pytest.mark.parametrize("files", [{}, {"pyproject.toml": "[project]\nname = 'x'\n"}])
def test_trials_run_in_the_repositorys_own_virtual_environment(
    tmp_path: Path, name: str, files: dict[str, str]
) -> None:
    write(tmp_path, {f"{name}/bin/python": ""})
    assert value(looked_at(tmp_path, files), "trial", "environment") != str(tmp_path / name)
    (tmp_path / name / "bin" / "python").chmod(0o755)
    detected = looked_at(tmp_path, {"train.py": AUTORESEARCH["train.py"], **files})
    assert written(tmp_path, detected).trial.environment == str(tmp_path / name)
    assert finding(detected, "trial", "environment").why == f"there is {name}/bin/python"
    assert value(detected, "trial", "command") == "python train.py"


def test_a_lock_file_decides_over_a_virtual_environment(tmp_path: Path) -> None:
    write(tmp_path, {".venv/bin/python": "", "uv.lock": ""})
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    detected = looked_at(tmp_path, {"train.py": "", "prepare.py": "__name__ == '__main__'"})
    assert value(detected, "trial", "environment") == "uv"
    assert value(detected, "trial", "setup") == "uv run prepare.py"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("mar5", "mar5"),
        ("my study (2)", "my-study-2"),
        ("näher ran", "naher-ran"),
        ("..a..b.lock", "a.b"),
        ("研究", "study"),
        ("x" * 100, "x" * 64),
        ("-._", "study"),
    ],
)
def test_the_name_of_a_folder_becomes_one_that_git_takes(folder: str, name: str) -> None:
    assert study_name(folder) == name


def test_files_that_are_no_scripts_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes(b"\x00\xff" * 1000)
    (tmp_path / "prepare.py").mkdir()
    (tmp_path / "run.sh").write_bytes(b"x" * 2_000_000)
    detected = detect(tmp_path, has_gpu=True)
    assert value(detected, "trial", "command") == "python train.py"


def test_a_byte_order_mark_is_no_part_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text('x = 1\nprint(f"val_loss: {x}")\n', "utf-8-sig")
    assert value(detect(tmp_path, has_gpu=False), "metric", "name") == "val_loss"


def test_what_documents_hold_cannot_break_the_file(tmp_path: Path) -> None:
    files = {
        "train.py": 'x = 1\nprint(f"zork: {x}")\n',
        "program.md": "the lowest\x1c\n\"zork' # = [study]\n",
    }
    config = written(tmp_path, looked_at(tmp_path / "study", files))
    assert config.metric.name == "zork"


def test_a_seed_that_the_script_sets_itself_is_pointed_at_with_a_pattern(tmp_path: Path) -> None:
    script = "import torch\ntorch.manual_seed(42)\nprint(f'val_loss: {1.0:.4f}')\n"
    detected = looked_at(tmp_path, {"train.py": script})
    (hint,) = detected.hints
    assert (hint.section, hint.key) == ("trial", "seed_pattern")
    assert hint.why.startswith("train.py:2 ")
    assert written(tmp_path, detected).trial.seed_pattern == ""  # it is the user's to take
    path = tmp_path / "incumbent.toml"
    path.write_text(path.read_text().replace("# seed_pattern", "seed_pattern"))
    assert re.findall(load_config(path).trial.seed_pattern, script) == ["42"]


@pytest.mark.parametrize(
    "line", ["torch.manual_seed(int(os.environ['INCUMBENT_SEED']))", "DEPTH = 8"]
)
def test_no_pattern_is_suggested_where_none_is_needed(line: str, tmp_path: Path) -> None:
    assert looked_at(tmp_path, {"train.py": f"{line}\nprint('val_loss: 1.0')\n"}).hints == ()
