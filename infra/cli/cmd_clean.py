"""`incumbent clean`."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption

if TYPE_CHECKING:
    from infra.local.environments import StoredEnvironment


def clean(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be removed; nothing is.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove the environments of trials that no study on this machine uses any more."""
    from infra.local.environments import clean as clean_environments

    found = clean_environments(dry_run=dry_run)
    if as_json:
        print_json(found)
    else:
        _show(found, dry_run=dry_run)


def _show(found: "list[StoredEnvironment]", *, dry_run: bool) -> None:
    gone = [each for each in found if each["removed"] or (dry_run and not each["studies"])]
    for each in found:
        users = ", ".join(each["studies"])
        fate = "would be removed" if dry_run else "removed"
        kept = f"kept for {users}" if users else "kept: a study is making it, or begins to use it"
        say(f"{_gb(each['bytes'])}  {each['path']}  {fate if each in gone else kept}")
    freed = _gb(sum(each["bytes"] for each in gone)).strip()
    many = f"{len(gone)} of {len(found)} environments {'would be ' if dry_run else ''}removed"
    say(f"{many}, which no study uses: {freed}")


def _gb(count: int) -> str:
    return f"{count / 1e9:>7.2f} GB"
