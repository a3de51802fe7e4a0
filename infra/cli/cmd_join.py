"""`incumbent join` and `incumbent leave`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import note, print_json, say
from infra.cli.study_choice import JsonOption, UsageProblem

if TYPE_CHECKING:
    from infra.local.node_home import NodeHome


def join(
    address: Annotated[
        str, typer.Argument(help="HOST:PORT of the study: `run --listen` prints it.")
    ],
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="A copy of the study's token; default: it is asked for."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="What to call this machine; default: its host name.")
    ] = "",
    slots: Annotated[
        int, typer.Option("--slots", min=0, help="CPU slots, or fewer GPUs than there are.")
    ] = 0,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it has joined.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give this machine's slots to a study on another machine."""
    from dataclasses import asdict

    from infra.display.attach import counted_interrupts
    from infra.processes.joining import begin, follow_node, require_head, words_of

    home, node = _checked(address, name)
    status = home.status()
    if status is not None:
        note(f"attached to the node process that runs already (process {status.pid})")
        if name or slots or token_file:
            note("what else you said is for the next time: `incumbent leave`, then join again")
        note(words_of(status))
    else:
        token = _read_token(home, token_file)
        require_head(home.head)
        _require_another_machine(home.head)
        cores = os.cpu_count() or 1
        if slots > cores:
            note(f"--slots {slots} is more than this machine's {cores} cores: trials share them")
        home.create()
        if token:
            home.write_token(token)
    with counted_interrupts() as presses:
        offset = begin(home, node=node, slots=slots, is_running=status is not None)
        tell = (lambda _: None) if as_json else note
        ended = follow_node(home, tell, presses, offset=offset, until_joined=detach)
    if as_json:
        print_json(asdict(ended))
    raise typer.Exit(1 if ended.standing == "refused" else 0)


def leave(
    address: Annotated[
        str, typer.Argument(help="HOST:PORT of the study; default: the only one.")
    ] = "",
    now: Annotated[
        bool, typer.Option("--now", help="Give running trials back instead of finishing them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take this machine out of a study that it joined."""
    from infra.local.node_home import memberships
    from infra.processes.joining import ask_to_leave, end_leftovers

    address = _numeric(address) if address else ""
    known = memberships()
    running = [home for home in known if home.status() is not None]
    wanted = [home for home in running if address in {"", home.head}]
    gone = [home for home in known if home not in running and address in {"", home.head}]
    swept = [home for home in gone if end_leftovers(home)]
    if len(wanted) > 1:
        names = ", ".join(home.head for home in wanted)
        raise UsageProblem(f"which study? Say one of: {names}")
    if not wanted and not swept and running:
        names = ", ".join(home.head for home in running)
        raise UsageProblem(f"this machine has not joined {address}, but {names}")
    for home in wanted:
        ask_to_leave(home, note, now=now)
    if as_json:
        print_json({"left": [home.head for home in (*wanted, *swept)]})
    for home in () if as_json else wanted:
        say(f"left {home.head}")
    for home in () if as_json else swept:
        say(f"ended what was left of a node process that was killed ({home.head})")
    if not (as_json or wanted or swept):
        say("this machine has joined no study")


def _checked(head: str, name: str) -> "tuple[NodeHome, str]":
    import re
    import socket

    from infra.local.node_home import NodeHome

    address = _numeric(head)
    node = name or socket.gethostname().partition(".")[0]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", node):
        raise UsageProblem(
            f"{node!r} is no name for a node: say --name with letters, digits, dashes, underscores"
        )
    return NodeHome.locate(address), node


def _require_another_machine(head: str) -> None:
    from cluster.nodes.reach import answers, is_of_this_machine

    if is_of_this_machine(head) and answers(head):
        raise UsageProblem(
            f"{head} is this machine, and the slots of a study's head take part already "
            "(`incumbent run --slots N` says how many)"
        )


def _numeric(head: str) -> str:
    """Return HOST:PORT with the host's address, by which a study is known whatever it is called."""
    from cluster.nodes.reach import ipv4_of, split

    try:
        host, port = split(head)
        return f"{ipv4_of(host)}:{port}"
    except ValueError as error:
        raise UsageProblem(f"{error}: `incumbent run --listen` prints what to say") from error


def _read_token(home: "NodeHome", file: Path | None) -> str:
    """Return the token that is given by file or at the prompt; "" for one that was kept."""
    if file is not None:
        try:
            token = file.expanduser().read_text("utf-8").strip()
            is_open = file.expanduser().stat().st_mode & 0o077
        except OSError as error:
            raise UsageProblem(f"cannot read the token from {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageProblem(f"cannot read the token from {file}: it is no text") from error
        except RuntimeError as error:
            raise UsageProblem(f"--token-file {file}: there is no such home folder") from error
        if is_open:
            note(f"{file} can be read by others, and whoever has it can join: chmod 600 {file}")
    elif home.token.exists():
        return ""
    elif sys.stdin.isatty():
        token = typer.prompt("token of the study", hide_input=True, err=True).strip()
    else:
        token = sys.stdin.readline().strip()
    if not token:
        raise UsageProblem(
            "there is no token: say --token-file with a copy of the one that `incumbent run "
            "--listen` names, or give it on standard input"
        )
    return token
