"""Attempts to mislead whoever reads a trial's files and output."""

import json
import math
import pickle
import re
import subprocess
from functools import partial
from pathlib import Path

from cluster.ours import PACKAGES
from infra.facts.plain_text import printable_lines
from tests.security.attempt import Aftermath, Attempt, Category, Control, Judge
from trainer.endings import classify
from trainer.log_capture import HEAD_BYTES
from trainer.run_records import EndedBy, MessageReader, RunReport
from trainer.safe_read import SafeFolder, Unsafe
from trainer.trial import Ending

_RESULT_BYTES = 1 << 20
_ROOT = Path(__file__).parents[3]
_RUNS_WHAT_IT_LOADS = re.compile(
    r"\bimport (?:pickle|marshal|shelve|joblib|dill)\b|\btorch\.load\(|allow_pickle=True"
)

_attempt = partial(Attempt, category=Category.RESULTS, control=Control.CARELESS)


# What the trusted side makes of it


def reads(name: str) -> Judge:
    """Return a judge that reads a result as the trusted side does."""

    def judge(aftermath: Aftermath) -> str:
        try:
            with SafeFolder(aftermath.out) as folder:
                return f"{len(folder.read(name, _RESULT_BYTES))} bytes were read"
        except Unsafe:
            return ""

    return judge


def is_unpickled(_: Aftermath) -> str:
    """Look for anything on the trusted side that could run what it loads."""
    for package in PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            if found := _RUNS_WHAT_IT_LOADS.search(path.read_text("utf-8")):
                return f"{path.name} has {found[0]}"
    return ""


def is_scored(aftermath: Aftermath) -> str:
    """See whether the run became a number."""
    outcome = classify(aftermath.report, device_class="cpu", stages_s={})
    return f"a score of {outcome.value}" if outcome.ending is Ending.SCORED else ""


def shows_control_characters(aftermath: Aftermath) -> str:
    """Look for what a terminal would obey in all that people are shown of a log."""
    log = aftermath.log.read_bytes().decode("utf-8", "replace")
    shown = aftermath.report.tail + printable_lines(log)
    found = [each for each in shown if not each.isprintable() and each != "\n"]
    return repr(found[:5]) if found else ""


def misreports(aftermath: Aftermath) -> str:
    """See whether the report is another than the supervisor's own."""
    report = aftermath.report
    is_own = (report.ended_by, report.exit_code) == (EndedBy.EXIT, 3) and not report.problem
    return "" if is_own else f"{report.ended_by}, {report.exit_code}"


# What a careless one would


def reads_carelessly(name: str) -> Judge:
    """Return a judge that simply opens a result and finds the secret in it."""

    def judge(aftermath: Aftermath) -> str:
        text = (aftermath.out / name).read_text("utf-8", "replace")
        return text if aftermath.world.token in text else ""

    return judge


def waits_for_ever(aftermath: Aftermath) -> str:
    """Open the result in another process, and give up on it."""
    try:
        subprocess.run(
            ("cat", aftermath.out / "result.json"), check=False, capture_output=True, timeout=0.3
        )
    except subprocess.TimeoutExpired:
        return "the reader waits for ever"
    return ""


def is_too_large(aftermath: Aftermath) -> str:
    """See how much a reader would take into memory."""
    size = (aftermath.out / "result.json").stat().st_size
    return f"{size} bytes" if size > 1 << 30 else ""


def unpickles(aftermath: Aftermath) -> str:
    """Load a checkpoint as torch.load(weights_only=False) does."""
    return str(pickle.loads((aftermath.out / "model.pt").read_bytes()))  # noqa: S301


def believes_a_line(aftermath: Aftermath) -> str:
    """Take output for a message of the supervisor's."""
    line = next(line for line in aftermath.log.read_bytes().split(b"\n") if line.startswith(b"["))
    (message,) = MessageReader().feed(line + b"\n")[:1]
    return f"a score of {message.metric_text}" if isinstance(message, RunReport) else ""


def takes_any_float(aftermath: Aftermath) -> str:
    """Take what stands behind the metric's name for a score, whatever it is."""
    value = float(aftermath.report.metric_text or "")
    return "" if math.isfinite(value) else f"a score of {value}"


def looks_at_the_log_alone(aftermath: Aftermath) -> str:
    """Take the last number for a score, however the run ended."""
    return aftermath.report.metric_text or ""


def looks_at_the_exit_code_alone(aftermath: Aftermath) -> str:
    """Take exit code 0 for a success."""
    return "exit code 0" if aftermath.report.exit_code == 0 else ""


def prints_raw(*wanted: bytes) -> Judge:
    """Return a judge that would print the log as it is."""

    def judge(aftermath: Aftermath) -> str:
        log = aftermath.log.read_bytes()
        return repr(wanted) if all(each in log for each in wanted) else ""

    return judge


def is_encoded(aftermath: Aftermath) -> str:
    """See whether the tail can be stored and sent, and holds no more than it may."""
    tail = aftermath.report.tail
    json.dumps(tail, ensure_ascii=False).encode()
    return "NUL" if "\0" in tail else shows_control_characters(aftermath)


def line_is_kept(aftermath: Aftermath) -> str:
    """See whether a line of any length becomes part of a report."""
    longest = max(map(len, [*aftermath.report.tail.splitlines(), ""]))
    return f"a line of {longest}" if longest > 16384 else ""


_FORGED = (
    '["report", {"ended_by": "exit", "exit_code": 0, "metric_text": "0.0001", "metric_count": 1}]'
)

ATTEMPTS = (
    *(
        _attempt(
            name=name,
            aim=aim,
            script=f"os.symlink({target}, out + '/{link}')\n",
            judge=reads(result),
            careless=reads_carelessly(result),
            why="the link is resolved outside; the control opens it as any program does",
        )
        for name, aim, target, link, result in (
            (
                "result_is_a_link",
                "to have the trusted side read the labels for it, by a symbolic link",
                "host['labels']",
                "result.json",
                "result.json",
            ),
            (
                "folder_is_a_link",
                "the same by a folder on the way",
                "os.path.dirname(host['labels'])",
                "sub",
                "sub/labels.json",
            ),
            (
                "link_through_proc",
                "the same by a link into /proc, where the reader's own files are",
                "'/proc/self/root' + host['labels']",
                "result.json",
                "result.json",
            ),
        )
    ),
    _attempt(
        name="result_is_a_pipe",
        aim="to make the reader wait for ever",
        script="os.mkfifo(out + '/result.json')\n",
        judge=reads("result.json"),
        careless=waits_for_ever,
        why="it waits outside; the control is a reader that is given up on",
    ),
    _attempt(
        name="result_is_too_large",
        aim="to fill the reader's memory",
        script="os.truncate(os.open(out + '/result.json', os.O_CREAT | os.O_RDWR), 8 << 30)\n",
        judge=reads("result.json"),
        careless=is_too_large,
        why="the control sees how much a reader would read",
    ),
    _attempt(
        name="result_has_two_names",
        aim="a file that may be another's, by a hard link",
        script="open(out + '/a', 'w').close()\nos.link(out + '/a', out + '/result.json')\n",
        judge=reads("result.json"),
        careless=lambda aftermath: (
            "read" if (aftermath.out / "result.json").read_text() == "" else ""
        ),
        why="the control opens it as any program does",
    ),
    _attempt(
        name="checkpoint_is_a_program",
        aim="to run code where its checkpoint is loaded",
        script="""
import pickle
class Model:
    def __reduce__(self):
        return (str.upper, ("code ran",))
Path(out, "model.pt").write_bytes(pickle.dumps(Model()))
""",
        judge=is_unpickled,
        careless=unpickles,
        why="the trusted side loads no pickle at all; the control does",
    ),
    _attempt(
        name="forged_report",
        aim="to print what the supervisor says at the end of a run",
        script=f"print('\\\\n' + {_FORGED!r}, flush=True)\nos._exit(3)\n".replace("\\\\n", "\\n"),
        judge=misreports,
        careless=believes_a_line,
        why="reports go another way than output; the control reads them from the log",
    ),
    *(
        _attempt(
            name=f"metric_is_{name}",
            aim=f"a score that is no number: {text}",
            script=f"print('val_bpb: {text}')\n",
            judge=is_scored,
            careless=takes_any_float,
            why="the control believes whatever float() does",
        )
        for name, text in (("nan", "nan"), ("beyond_all_numbers", "-1e999"), ("infinite", "-inf"))
    ),
    *(
        _attempt(
            name=name,
            aim=f"a score from a run that {what}",
            script=f"import time\nprint('val_bpb: 0.1', flush=True)\n{end}\n",
            judge=is_scored,
            timeout_s=timeout_s,
            careless=looks_at_the_log_alone,
            why="the control reads the log alone",
        )
        for name, what, end, timeout_s in (
            ("ended_by_its_own_signal", "killed itself", "os.kill(os.getpid(), 9)\nos.abort()", 20),
            ("failed_after_the_metric", "failed", "os._exit(1)", 20),
            ("cut_off_after_the_metric", "would not end", "time.sleep(60)", 0.5),
        )
    ),
    _attempt(
        name="nothing_and_exit_code_0",
        aim="a success without a result",
        script="os._exit(0)\n",
        judge=is_scored,
        careless=looks_at_the_exit_code_alone,
        why="the control looks at the exit code alone",
    ),
    _attempt(
        name="terminal_escapes",
        aim="to write on the reader's terminal, or to have it run something",
        script=r"""
os.write(1, b"\x1b]0;title\x07\x1b[2J\x1b[1;1H\x1bP+q\x1b\\ \x9b31m \x1b]52;c;Y3VybA==\x07\n")
os.write(1, b"step 1\rdone \x08\x08\x08\x7f \xc2\x9b2J\n")
""",
        judge=shows_control_characters,
        careless=prints_raw(b"\x1b[2J", b"\x1b]52", b"\xc2\x9b"),
        why="the control prints the log as it is",
    ),
    _attempt(
        name="text_that_reads_backwards",
        aim="to show another text than there is, by marks of direction and of no width",
        script="os.write(1, 'kept \\u202e \\u2066 \\u200b \\u2028 \\ufeff\\n'.encode())\n",
        judge=shows_control_characters,
        careless=prints_raw("\u202e".encode()),
        why="the control prints the log as it is",
    ),
    _attempt(
        name="output_that_is_no_text",
        aim="to break the reader by NUL and by bytes that are not UTF-8",
        script=r"""
os.write(1, b"\0\0\xff\xfe\xed\xa0\x80 val_bpb\n" + bytes(range(256)) * 3 + b"\n")
""",
        judge=is_encoded,
        careless=prints_raw(b"\0", b"\xff"),
        why="the control prints the log as it is",
    ),
    _attempt(
        name="line_of_megabytes",
        aim="to have an endless line stored or sent",
        script="os.write(1, b'y' * (4 << 20))\n",
        judge=line_is_kept,
        careless=lambda aftermath: (
            "a long line" if len(aftermath.log.read_bytes().split(b"\n")[0]) >= HEAD_BYTES else ""
        ),
        why="the control takes the log's first line as it is",
    ),
)
