"""What the installed command does before there is a command line."""

import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

AT_AN_IMPORT = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["--help"]
from infra.cli.entry import main
main()
"""


@pytest.mark.parametrize(("ignored", "code"), [(False, -signal.SIGINT), (True, 0)])
def test_an_interrupt_among_the_first_imports_ends_it_quietly(ignored: bool, code: int) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AT_AN_IMPORT], capture_output=True, text=True, check=False
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (code, "")


def test_the_version_is_that_of_what_is_installed() -> None:
    program = Path(sys.executable).with_name("incumbent")
    told = subprocess.check_output([program, "--version"], text=True)
    assert told == f"incumbent {version('incumbent')}\n"
