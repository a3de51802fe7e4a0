"""Which study a command is about: named, or the one of the repository here, or the only one."""

from pathlib import Path
from typing import Annotated

import typer

from infra.local.checkout import config_file, main_checkout, study_named, toplevel
from infra.local.home import StudyHome, studies

StudyOption = Annotated[
    str, typer.Option("--study", "-s", help="Name of the study; default: the one of this folder.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class UsageProblem(ValueError):
    """A command that cannot be meant; the message says what to do."""


def choose_study(name: str = "", *, to_act: bool = False) -> StudyHome:
    """Return the home of the study that is meant; raises UsageProblem if there is no telling.

    From elsewhere a look at the only study there is may be meant; an act on it has to be said. One
    that was set aside is meant only where its whole id is given.
    """
    repository = toplevel(Path.cwd().resolve())
    configured = study_named(config_file(repository)) if repository else ""
    nearby_at = {repository, main_checkout(repository)} if repository else set()
    everything = studies()
    for home in everything:
        if home.id == name:
            return home
    known = [home for home in everything if not home.is_set_aside]
    wanted = name or configured
    found = [home for home in known if wanted in {home.name, home.id}] if wanted else known
    nearby = [home for home in found if home.repository in nearby_at]
    if len(nearby) == 1 or (len(found) == 1 and (name or not to_act)):
        return (nearby or found)[0]
    if not found:
        if repository and wanted:
            _complain_of(StudyHome.of(repository, wanted))
        cure = "`incumbent run` starts it" if repository else "go to its repository"
        raise UsageProblem(f"there is no study{f' {wanted}' if wanted else ''} yet: {cure}")
    names = ", ".join(home.id for home in found)
    raise UsageProblem(f"which study? Say --study with one of: {names}")


def _complain_of(home: StudyHome) -> None:
    """Raise StudyProblem if there is such a study, but one that this program cannot read."""
    if home.exists():
        StudyHome.read(home.directory)
