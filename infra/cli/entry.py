"""What `incumbent` starts: the command line, which Ctrl-C ends quietly from the first import on.

Knows nothing of the verbs. It exists because half of a second goes by in imports before `main` can
catch an interrupt, and they would answer it with a traceback.
"""

import signal


def main() -> None:
    """Import the command line and run it; until it runs, Ctrl-C ends the process as in C."""
    # Who starts us with Ctrl-C ignored, such as nohup, means it.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from infra.cli.main import main as run

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
