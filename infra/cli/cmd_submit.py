"""`incumbent submit`."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.handing_in import (
    MessageOption,
    PriorityOption,
    WaitOption,
    hand_in,
    new_name,
    refuse_impossible,
)
from infra.cli.study_choice import JsonOption, UsageProblem

if TYPE_CHECKING:
    from cluster.config import StudyConfig
    from cluster.state.events import SubmissionReceived
    from infra.local.study import OpenStudy
    from trainer.trial import CommitId

_FIRST_FILE = re.compile(rb"^(?:diff --git |--- .*\n\+\+\+ )", re.MULTILINE)


def submit(
    path: Annotated[Path, typer.Argument(help="The research repository.")] = Path(),
    patch: Annotated[
        Path | None, typer.Option("--patch", help="A patch file; - reads standard input.")
    ] = None,
    branch: Annotated[
        str, typer.Option("--branch", help="A branch of your repository, as it is now.")
    ] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A constant: NAME=VALUE; may be repeated.")
    ] = None,
    grid: Annotated[
        list[str] | None, typer.Option("--grid", help="Values to combine: 'NAME=V1,V2'; repeats.")
    ] = None,
    message: MessageOption = "",
    priority: PriorityOption = 1,
    full: Annotated[bool, typer.Option("--full", help="Run it in full at once: no rungs.")] = False,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Queue experiments of your own: a patch, a branch, or other values of constants."""
    from cluster.config_file import load_config
    from infra.processes.launch import find_config, prepare_study

    _require_text(branch, *(settings or ()), *(grid or ()))
    source, file = find_config(path)
    if not file.exists():
        raise UsageProblem(f"there is no {file.name} in {source.toplevel}: run `incumbent init`")
    config = load_config(file)
    prepared = prepare_study(source, config)
    study = prepared.study
    try:
        made = _submissions(study, config, patch, branch, settings, grid, message, priority)
        made = [replace(submission, in_full=full) for submission in made]
        refuse_impossible(study, config.study.editable, made)
        hand_in(study, made, wait=wait, as_json=as_json)
    finally:
        study.server.release(study.client)


def _submissions(
    study: "OpenStudy",
    config: "StudyConfig",
    patch: Path | None,
    branch: str,
    settings: list[str] | None,
    grid: list[str] | None,
    message: str,
    priority: int,
) -> "list[SubmissionReceived]":
    """Check what can be checked now, and return what to hand in; raises UsageProblem."""
    from cluster.state.events import SubmissionReceived
    from proposer.patch import PatchRejected, check_patch

    kinds = [bool(patch), bool(branch), bool(settings), bool(grid)]
    if sum(kinds) != 1:
        raise UsageProblem("say exactly one of --patch, --branch, --set and --grid")

    def received(**what: object) -> SubmissionReceived:
        fields = {"hypothesis": message, **what}
        return SubmissionReceived(
            submission=new_name(),
            priority=priority,
            **fields,  # type: ignore[arg-type]
        )

    if patch is not None:
        text = _read(patch)
        try:
            paths = check_patch(text, config.study.editable)
        except PatchRejected as error:
            raise UsageProblem(f"the patch is refused: {error}") from error
        return [received(patch=text, hypothesis=message or f"patch of {', '.join(paths)}")]
    if branch:
        tip = _tip(study, branch)
        return [received(branch=branch, tip=tip, hypothesis=message or f"branch {branch}")]
    try:
        return _of_settings(study, config, settings, grid, received, message)
    except ValueError as error:
        raise UsageProblem(str(error)) from error


def _tip(study: "OpenStudy", branch: str) -> "CommitId":
    """Return where a branch is now: what is added to it later was not handed in."""
    from cluster.git.source_repository import SourceProblem, SourceRepository

    origin = SourceRepository.origin(study.home.repository)
    try:
        return origin.resolve(f"refs/heads/{branch}")
    except SourceProblem as error:
        raise UsageProblem(f"there is no branch {branch} in {origin.toplevel}") from error


def _of_settings(
    study: "OpenStudy",
    config: "StudyConfig",
    settings: list[str] | None,
    grid: list[str] | None,
    received: "Callable[..., SubmissionReceived]",
    message: str,
) -> "list[SubmissionReceived]":
    from cluster.git.study_repository import StudyRepository
    from proposer.submission import (
        apply_settings,
        leave_out_present,
        parse_grid,
        parse_settings,
    )

    state = study.state()
    repository = StudyRepository.open(study.home.git, study=config.study.name)
    commit = state.incumbent_commit or state.base_commit
    files = repository.read_files(commit, config.study.editable)
    wanted: Sequence[Mapping[str, str]] = [parse_settings(settings or [])]
    if grid:
        points = parse_grid(grid)
        # Of a grid whose only point is there already, say so as of a single setting.
        wanted = leave_out_present(files, points) or points
    made = []
    for one in wanted:
        proposal = apply_settings(files, one)
        made.append(received(settings=dict(one), hypothesis=message or proposal.hypothesis))
    return made


def _read(patch: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(patch) == "-" else patch.read_bytes()
    except OSError as error:
        raise UsageProblem(f"cannot read {patch}: {error.strerror}") from error
    return _text(data)


def _text(data: bytes) -> str:
    """Return a patch as text; of one that is not UTF-8, without what precedes its first file.

    The header of a mail may be in another encoding than the files. Raises UsageProblem.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        first = _FIRST_FILE.search(data)
        if first is None:
            return data.decode("utf-8", "replace")  # no patch, and refused as such
    try:
        return data[first.start() :].decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, first.start() + error.start) + 1
        raise UsageProblem(f"the patch is refused: line {line} is not UTF-8 text") from error


def _require_text(*words: str) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = word.encode("ascii", "backslashreplace").decode()
            raise UsageProblem(f"{shown} is not UTF-8 text") from error
