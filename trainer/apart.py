"""Puts a question to one of our own functions in a process that may die of it.

For whatever parses sources that a candidate wrote. Parsers recurse on the machine's stack and hold
the interpreter while they do; a few kilobytes of the wrong shape cost one of them minutes,
gigabytes or its life. What serves a slot or a study must not share that fate.

Knows processes and limits. Does not know what is asked. The answer comes back as JSON: who was
taken over by what it read can say something wrong, and no more than that.
"""

import json
import subprocess
import sys
import tempfile
from typing import Any

from trainer.own_python import FIND_OURS, variables

_MOST_ANSWER = 16 << 20
_BOOT = f"""\
{FIND_OURS}
import resource
module, name, memory, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for what, most in (
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_CPU, seconds),
    (resource.RLIMIT_FSIZE, {_MOST_ANSWER}),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(what, (most, most))
import importlib, json
function = getattr(importlib.import_module(module), name)
json.dump(function(json.load(sys.stdin)), sys.stdout)
"""


class Unanswered(RuntimeError):
    """There is no answer; the message says why: too long, or how the process ended."""


def ask(
    function: str,
    question: object,
    *,
    timeout_s: float,
    memory_bytes: int = 1 << 30,
    with_packages: bool = False,
) -> Any:  # noqa: ANN401 - what JSON can hold
    """Return what `function`, named "package.module:function", says of `question`.

    Both are what JSON can hold. The process is started anew for each question, which takes some 50
    ms, and has `timeout_s` seconds and `memory_bytes` of address space. `with_packages` lets it
    import third-party libraries. Raises Unanswered.
    """
    module, _, name = function.partition(":")
    limits = (str(memory_bytes), str(int(timeout_s) + 1))
    packages = [] if with_packages else ["-S"]
    with tempfile.TemporaryFile() as answer:  # a pipe would have no end of it
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-B", *packages, "-c", _BOOT, module, name, *limits],
                input=json.dumps(question).encode(),
                stdout=answer,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=variables(),
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unanswered(f"it took more than {timeout_s:g} s") from None
        except OSError as error:
            raise Unanswered(str(error)) from error
        if done.returncode:
            raise Unanswered(_ending(done.returncode))
        answer.seek(0)
        try:
            return json.load(answer)
        except ValueError as error:
            raise Unanswered("its answer makes no sense") from error


def _ending(status: int) -> str:
    return f"it died of signal {-status}" if status < 0 else "it took too much memory, or failed"
