"""Works out the configuration of a study by looking at its repository.

Knows what research repositories look like: karpathy/autoresearch and its relatives, and shell
scripts that print `METRIC name=value`. Reads files and asks nobody; what it assumed it says, with
the place it saw it, and what it could not find it returns as a question for the user's own hand.
"""

import ast
import os
import re
import shlex
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from eval.seeds import VARIABLE, suggested_pattern
from infra.detection.detect_budget import budgets
from infra.detection.detect_metric import Hints, PrintedMetric, find_metric
from infra.detection.source import (
    Source,
    assignments,
    code_named_in,
    home_path,
    imported,
    read_source,
    read_with_imports,
)

_SCRIPTS = ("autoresearch.sh", "run.sh", "train.sh", "bench.sh", "benchmark.sh")
_DOCUMENTS = ("program.md", "autoresearch.md", "README.md", "results.tsv")
_VIRTUAL_ENVIRONMENTS = (".venv", "venv", "env")
_JUDGES = re.compile(r"(?:prepare|eval|score|test|check|measure|bench)", re.IGNORECASE)
"""Names of files that measure: a candidate that may change them need not get any better."""

_DEFAULT_BUDGET_S = 300.0
_LEAST_SPARE_S = 60.0
"""Start-up and evaluation take this long even where training is short."""

_SHELL_HOME = re.compile(r"(?:~|\$HOME|\$\{HOME\})/([\w.@+-]+(?:/[\w.@+-]+)*)")
_HOME_PATH = re.compile(r"~(?:/(?!\.\.?(?:/|$))[\w.@+-]+)+")
_TOO_WIDE = {"~/.cache", "~/.local", "~/.local/share", "~/.config"}
_HUGGING_FACE = "~/.cache/huggingface"
_HUB_CALLS: Mapping[str, str] = {
    "hf_hub_download": _HUGGING_FACE,
    "snapshot_download": _HUGGING_FACE,
    "from_pretrained": _HUGGING_FACE,
    "load_dataset": _HUGGING_FACE,
    "get_kernel": _HUGGING_FACE,
    "load_state_dict_from_url": "~/.cache/torch",
}
_GPU_LIBRARIES = {
    "accelerate", "jax", "keras", "lightning", "pytorch_lightning", "tensorflow", "transformers",
}  # fmt: skip
_SHELL_GPU = re.compile(r"\bcuda\b|CUDA_VISIBLE_DEVICES|\bnvcc\b|--gpus\b|\bnvidia-smi\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A key of the configuration with the value that the repository suggests."""

    section: str
    key: str
    value: str | float | tuple[str, ...]
    why: str
    """Where it was seen, or what was assumed; one short line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A key that the user must give, because nothing in the repository tells."""

    section: str
    key: str
    text: str
    example: str
    """A value that would be possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What looking at a repository told, in the order of the configuration file."""

    findings: tuple[Finding, ...]
    questions: tuple[Question, ...]
    """Empty for a repository that needs no editing."""
    hints: tuple[Finding, ...] = ()
    """Keys that may be worth setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """What a trial starts."""

    path: str
    """Empty where nothing was found."""
    sources: Sequence[Source]
    """The entry itself first, then the files that it imports or names."""
    metric: PrintedMetric | None
    editable: tuple[str, ...]

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")


def detect(repository: Path, *, has_gpu: bool) -> Detected:
    """Look at a repository.

    `has_gpu` says whether this machine has a GPU: it decides for code that runs with and without.

    - What is run: `train.py`; a shell script beside it (`run.sh`, `bench.sh` and the like) where
      there is no `train.py`, or where only the script prints a metric.
    - What is editable: `train.py`; for a shell script the code files that it names, other than
      those whose names say that they measure; the script itself if it names none.
    """
    hints = Hints.of(filter(None, (read_source(repository, name) for name in _DOCUMENTS)))
    entry = _entry(repository, hints)
    known = {source.path for source in entry.sources}
    prepare = [s for s in read_with_imports(repository, "prepare.py") if s.path not in known]
    sources = [*entry.sources, *prepare]
    found = [
        *_study(repository, entry),
        *_metric(entry),
        *_command(repository, entry),
        *_budget(sources),
        _gpus(sources, has_gpu=has_gpu),
        *_data(sources),
        *_setup(repository, sources),
    ]
    return Detected(
        findings=tuple(item for item in found if isinstance(item, Finding)),
        questions=tuple(item for item in found if isinstance(item, Question)),
        hints=tuple(_seed(entry)),
    )


def study_name(folder: str) -> str:
    """Make a study's name of a folder's: ASCII, and fit to be part of a git branch."""
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode()
    name = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", plain))[:64].strip("._-")
    return name.removesuffix(".lock") or "study"


def _entry(repository: Path, hints: Hints) -> _Entry:
    training = read_with_imports(repository, "train.py")
    entries = [
        _Entry(
            path="train.py",
            sources=training,
            metric=find_metric(training, hints),
            editable=("train.py",),
        )
    ]
    for path in () if entries[0].metric else _shell_scripts(repository):
        if script := read_source(repository, path):
            named = code_named_in(script, repository)
            inner = [source for name in named for source in read_with_imports(repository, name)]
            editable = [name for name in named if not _JUDGES.match(Path(name).name)]
            entries.append(
                _Entry(
                    path=path,
                    sources=[script, *inner],
                    metric=find_metric([script, *inner], hints),
                    editable=tuple(name for name in editable if name != path) or (path,),
                )
            )
    with_metric = (entry for entry in entries if entry.metric)
    runnable = (entry for entry in entries if entry.sources)
    nothing = _Entry(path="", sources=(), metric=None, editable=())
    return next(with_metric, None) or next(runnable, nothing)


def _shell_scripts(repository: Path) -> Iterator[str]:
    names = sorted(path.name for path in repository.glob("*.sh"))
    yield from (name for name in _SCRIPTS if name in names)
    yield from (name for name in names if name not in _SCRIPTS)


def _study(repository: Path, entry: _Entry) -> Iterator[Finding | Question]:
    name = study_name(repository.resolve().name)
    yield Finding(section="study", key="name", value=name, why="by the name of the folder")
    if entry.editable:
        why = "all other files stay as they are"
        yield Finding(section="study", key="editable", value=entry.editable, why=why)
    else:
        text = "which files may candidates change?"
        yield Question(section="study", key="editable", text=text, example='["train.py"]')
    if (repository / "program.md").is_file():
        why = "shown to whoever proposes"
        yield Finding(section="study", key="instructions", value="program.md", why=why)


def _metric(entry: _Entry) -> Iterator[Finding | Question]:
    metric = entry.metric
    direction = '"minimize" or "maximize"?'
    if metric is None:
        what = "which number is to improve? no line `name: value` or `METRIC name=value` in "
        what += ", ".join(source.path for source in entry.sources) or "any script"
        if entry.is_python and entry.sources[0].tree is None:
            what = "which number is to improve? train.py is not valid Python: nothing to be read"
        yield Question(section="metric", key="name", text=what, example='"val_loss"')
        yield Question(section="metric", key="goal", text=direction, example='"minimize"')
        return
    yield Finding(section="metric", key="name", value=metric.name, why=metric.source)
    if metric.goal:
        goal, why = metric.goal.value, metric.goal_source
        yield Finding(section="metric", key="goal", value=goal, why=why)
    else:
        yield Question(section="metric", key="goal", text=direction, example='"minimize"')
    if metric.pattern:
        why = "how the line looks"
        yield Finding(section="metric", key="pattern", value=metric.pattern, why=why)


def _command(repository: Path, entry: _Entry) -> Iterator[Finding | Question]:
    environment, why = _environment(repository)
    is_uv = environment == "uv"
    if entry.path:
        runner = ("uv run" if is_uv else "python") if entry.is_python else "bash"
        command = f"{runner} {shlex.quote(entry.path)}"
        saw = why if is_uv else entry.path
        yield Finding(section="trial", key="command", value=command, why=saw)
    else:
        text = "what runs one experiment? there is no train.py and no shell script"
        yield Question(section="trial", key="command", text=text, example='"python train.py"')
    yield Finding(section="trial", key="environment", value=environment, why=why)


def _seed(entry: _Entry) -> Iterator[Finding]:
    """Point at the first seed that a script sets for itself."""
    sources = [source for source in entry.sources if source.path in entry.editable]
    if any(VARIABLE in source.text for source in entry.sources):
        return
    for source in sources:
        for at, line in enumerate(source.text.splitlines(), start=1):
            if pattern := suggested_pattern(line):
                why = f"{source.path}:{at} sets the seed; this gives repeats others"
                yield Finding(section="trial", key="seed_pattern", value=pattern, why=why)
                return


def _environment(repository: Path) -> tuple[str, str]:
    """Return what `[trial] environment` should be, and why."""
    if (repository / "uv.lock").is_file():
        return "uv", "uv.lock"
    for name in _VIRTUAL_ENVIRONMENTS:
        if os.access(repository / name / "bin" / "python", os.X_OK):
            return str((repository / name).absolute()), f"there is {name}/bin/python"
    if _is_project(repository):
        return "uv", "pyproject.toml"
    return "current", "the Python that Incumbent runs in"


def _is_project(repository: Path) -> bool:
    project = read_source(repository, "pyproject.toml")
    try:
        return project is not None and "project" in tomllib.loads(project.text)
    except ValueError:
        return False


def _budget(sources: Iterable[Source]) -> Iterator[Finding]:
    found = chain.from_iterable(map(budgets, sources))
    budget_s, why = next(found, (_DEFAULT_BUDGET_S, "assumed: no time budget found"))
    yield Finding(section="trial", key="budget_s", value=budget_s, why=why)
    timeout_s = max(2 * budget_s, budget_s + _LEAST_SPARE_S)
    why = "twice the budget" if timeout_s == 2 * budget_s else "the budget and a minute"
    why += ": a run is ended then"
    yield Finding(section="trial", key="timeout_s", value=timeout_s, why=why)


def _gpus(sources: Iterable[Source], *, has_gpu: bool) -> Finding:
    needs, can = "", ""
    for source in sources:
        uses, has_fallback = _cuda(source)
        if uses and not has_fallback:
            needs = needs or uses
        can = can or uses or _gpu_library(source)
    if needs or (can and has_gpu):
        return Finding(section="trial", key="gpus", value=1.0, why=f"{needs or can} uses CUDA")
    why = f"{can} runs without, and this machine has none" if can else "nothing here uses CUDA"
    return Finding(section="trial", key="gpus", value=0.0, why=why)


def _cuda(source: Source) -> tuple[str, bool]:
    """Return where a file speaks of CUDA (or ""), and whether it asks first if there is any."""
    if source.tree is None:
        found = _SHELL_GPU.search(source.text)
        return (source.at(found.start()) if found else ""), False
    required = {
        inner for node in source.nodes() if isinstance(node, ast.Assert) for inner in ast.walk(node)
    }
    uses, has_fallback = "", False
    for node in source.nodes():
        match node:
            case ast.Attribute(attr="is_available") if node not in required:
                has_fallback = True
            case ast.Attribute(attr="cuda"):
                uses = uses or source.at(node)
            case ast.Constant(value=str() as text) if text.partition(":")[0] == "cuda":
                uses = uses or source.at(node)
    return uses, has_fallback


def _gpu_library(source: Source) -> str:
    return source.path if _GPU_LIBRARIES.intersection(imported(source)) else ""


def _data(sources: Sequence[Source]) -> Iterator[Finding]:
    places: dict[str, str] = {}
    for path, place in _home_paths(sources):
        if _HOME_PATH.fullmatch(path) and path not in _TOO_WIDE:
            places.setdefault(path, place)
    top = [path for path in places if not any(path.startswith(f"{other}/") for other in places)]
    if top:
        why = ", ".join(places[path] for path in top)
        yield Finding(section="trial", key="data", value=tuple(top), why=why)


def _home_paths(sources: Sequence[Source]) -> Iterator[tuple[str, str]]:
    names = {name: node for source in sources for name, node in assignments(source).items()}
    says_where = any("HF_HOME" in source.text for source in sources)
    for source in sources:
        waiting: list[ast.AST] = [source.tree] if source.tree else []
        while waiting:
            node = waiting.pop(0)
            path = home_path(node, names) if isinstance(node, ast.expr) else None
            if path:
                yield path.rstrip("/"), source.at(node)
                continue  # its parts are not paths of their own
            cache = _hub_cache(node)
            if cache and not (cache == _HUGGING_FACE and says_where):
                yield cache, source.at(node)
            waiting += ast.iter_child_nodes(node)
        for found in () if source.tree else _SHELL_HOME.finditer(source.text):
            yield f"~/{found[1]}", source.at(found.start())


def _hub_cache(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _HUB_CALLS:
            return _HUB_CALLS[name]
        case ast.Attribute(value=ast.Name(id="torch"), attr="hub"):
            return "~/.cache/torch"
    return None


def _setup(repository: Path, sources: Iterable[Source]) -> Iterator[Finding]:
    prepare = next((source for source in sources if source.path == "prepare.py"), None)
    if prepare and "__main__" in prepare.text:
        runner = "uv run" if _environment(repository)[0] == "uv" else "python"
        why = "once, before the first trial"
        yield Finding(section="trial", key="setup", value=f"{runner} prepare.py", why=why)
