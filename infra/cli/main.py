"""Entry point of `incumbent`: the verbs, and what happens when one of them fails.

A verb imports what it needs when it runs, so that `incumbent --help` stays instant.
"""

import gc
import os
import sys
from io import TextIOWrapper
from typing import Annotated, TextIO

import typer

from infra.cli import (
    cmd_approve,
    cmd_artifacts,
    cmd_cancel,
    cmd_clean,
    cmd_demo,
    cmd_diff,
    cmd_doctor,
    cmd_export_ledger,
    cmd_final,
    cmd_import_ledger,
    cmd_init,
    cmd_join,
    cmd_log,
    cmd_logs,
    cmd_ls,
    cmd_nodes,
    cmd_pause,
    cmd_prune,
    cmd_rebuild,
    cmd_revert,
    cmd_run,
    cmd_show,
    cmd_simulate,
    cmd_status,
    cmd_stop,
    cmd_submit,
    cmd_tell,
    cmd_top,
    cmd_watch,
    cmd_why,
)

MOST_NEW_OBJECTS = 1_000_000
"""Growth in objects between two searches for cycles among them. A command builds what it shows and
ends; at Python's 700, a sixth of `status` at 10,000 experiments goes into looking for nothing."""

app = typer.Typer(
    name="incumbent",
    help="A distributed experiment queue across GPUs for autoresearch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        sys.stdout.write(f"incumbent {version('incumbent')}\n")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Take what goes before a verb."""


app.command("init")(cmd_init.init)
app.command("run")(cmd_run.run)
app.command("submit")(cmd_submit.submit)
app.command("revert")(cmd_revert.revert)
app.command("status")(cmd_status.status)
app.command("watch")(cmd_watch.watch)
app.command("log")(cmd_log.log)
app.command("show")(cmd_show.show)
app.command("why")(cmd_why.why)
app.command("diff")(cmd_diff.diff)
app.command("logs")(cmd_logs.logs)
app.command("artifacts")(cmd_artifacts.artifacts)
app.command("top")(cmd_top.top)
app.command("nodes")(cmd_nodes.nodes)
app.command("drain")(cmd_nodes.drain)
app.command("pause")(cmd_pause.pause)
app.command("resume")(cmd_pause.resume)
app.command("cancel")(cmd_cancel.cancel)
app.command("retry")(cmd_cancel.retry)
app.command("accept")(cmd_cancel.accept)
app.command("approve")(cmd_approve.approve)
app.command("reject")(cmd_approve.reject)
app.command("tell")(cmd_tell.tell)
app.command("scratchpad")(cmd_tell.scratchpad)
app.command("stop")(cmd_stop.stop)
app.command("final")(cmd_final.final)
app.command("export-ledger")(cmd_export_ledger.export_ledger)
app.command("import-ledger")(cmd_import_ledger.import_ledger)
app.command("rebuild")(cmd_rebuild.rebuild)
app.command("demo")(cmd_demo.demo)
app.command("simulate")(cmd_simulate.simulate)
app.command("prune")(cmd_prune.prune)
app.command("ls")(cmd_ls.list_studies)
app.command("clean")(cmd_clean.clean)
app.command("join")(cmd_join.join)
app.command("leave")(cmd_join.leave)
app.command("doctor")(cmd_doctor.doctor)


def spelled_out(arguments: list[str]) -> list[str]:
    """Give `--listen` the value that it stands for without one, as GNU does and Typer cannot."""
    return ["--listen=auto" if word == "--listen" else word for word in arguments]


def _show_what_it_can(stream: TextIO) -> None:
    """Have a terminal or a file that is not of UTF-8 show a question mark for what it lacks."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")


def main() -> None:
    """Run the command line; every expected failure is one short message and an exit code."""
    gc.set_threshold(MOST_NEW_OBJECTS)
    sys.argv[1:] = spelled_out(sys.argv[1:])
    _show_what_it_can(sys.stdout)
    _show_what_it_can(sys.stderr)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        from infra.cli.problems import explain

        explained = explain(error)
        if explained is None:
            raise
        message, code = explained
        sys.stderr.write(f"error: {message}\n")
        sys.exit(code)
    finally:
        gc.freeze()  # or Python looks for cycles in all of it before it exits: 0.1 s of `status`
