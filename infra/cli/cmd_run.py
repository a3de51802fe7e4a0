"""`incumbent run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import note, note_if_any, print_json
from infra.cli.study_choice import JsonOption, UsageProblem

if TYPE_CHECKING:
    from cluster.config import StudyConfig
    from infra.local.home import StudyHome
    from infra.processes.launch import Prepared


def run(
    path: Annotated[Path, typer.Argument(help="The research repository.")] = Path(),
    experiments: Annotated[
        int | None,
        typer.Option("--experiments", "-n", min=0, help="Stop when so many were judged in all."),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", min=0, help="Stop when it has run so long in all."),
    ] = None,
    usd: Annotated[
        float | None,
        typer.Option("--usd", min=0, help="Stop when models have cost so many dollars in all."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", min=0, help="Stop when models have used so many tokens in all."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="CPU slots, or fewer GPUs than there are.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Join this Ray cluster instead of an own one.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="[=ADDRESS[:PORT]]",
            help="Let other machines join; without an address, one is chosen.",
        ),
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", help="How trials are confined: bubblewrap, none.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Start it and return at once.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a study (baseline, propose, train, judge, merge), or attach to one that runs."""
    prepared = _prepare(path, experiments, hours, usd, tokens, slots, address, listen, sandbox)
    try:
        for line in prepared.notes:
            note(line)
        code = start(prepared, detach=detach, as_json=as_json, path=path)
    finally:
        prepared.study.server.release(prepared.study.client)
    raise typer.Exit(code)


def _prepare(
    path: Path,
    experiments: int | None,
    hours: float | None,
    usd: float | None,
    tokens: int | None,
    slots: int | None,
    address: str | None,
    listen: str | None,
    sandbox: str | None,
) -> "Prepared":
    from cluster.config_file import load_config
    from infra.local.home import StudyHome
    from infra.local.keys import needs_models
    from infra.local.settings import overridden
    from infra.processes.launch import find_config, prepare_run
    from infra.processes.listening import AUTO, placed

    if sandbox not in {None, "bubblewrap", "none"}:
        raise UsageProblem(f"--sandbox {sandbox}: the choices are bubblewrap and none")
    if listen == "":
        raise UsageProblem("--listen= names no address: give it one, or leave out the = as well")
    if listen == AUTO and not path.exists():
        raise UsageProblem(
            f"{path} is no folder: give that of the repository; if it is the address to listen at, "
            f"say --listen={path}"
        )
    source, file = find_config(path)
    if not file.exists():
        raise UsageProblem(f"there is no {file.name} in {source.toplevel}: run `incumbent init`")
    config = overridden(
        load_config(file),
        limits={"experiments": experiments, "hours": hours, "usd": usd, "tokens": tokens},
        cluster={"slots": slots, "address": address, "listen": listen},
        sandbox=sandbox,
    )
    config = placed(config, StudyHome.of(source.toplevel, config.study.name))
    if needs_models(config):
        from infra.checks.model_checks import require_prices

        require_prices(config)
    return prepare_run(source, config)


def start(prepared: "Prepared", *, detach: bool, as_json: bool, path: Path) -> int:
    """Start the controller unless it runs, and follow it; return the exit code."""
    from infra.display.attach import Follower, Left, counted_interrupts, follow, gather
    from infra.display.closing import last_words
    from infra.display.live_view import make_view
    from infra.local.bounds import bounds_of
    from infra.local.controller_process import find_controller
    from infra.local.controller_start import start_controller, wait_until_it_runs
    from infra.local.keys import check_keys, collect_keys, key_names, keyless_words
    from infra.local.settings import load_settings, save_settings
    from infra.processes.listening import join_words

    study, config = prepared.study, prepared.config
    keys: dict[str, str] = {}
    running = find_controller(study.home)
    if running is None:
        keys = collect_keys(key_names(config))
        check_keys(config, keys)
        _reserve_ports(study.home, config)
        _say_who_waits_in_vain(study.home, config)
        save_settings(study.home, config)
        note_if_any(join_words(study.home))
        _say_what_to_expect(prepared, keyless_words(config, keys))
        if config.trial.sandbox == "none":
            note("sandbox: none - trials run as you, with your files and network")
    # From here on Ctrl-C is a request: no controller that was started is left to itself.
    with counted_interrupts() as presses:
        if running is not None:
            note(f"attached to the controller that runs already (process {running.pid})")
            _warn_of_changes(load_settings(study.home), config)
            note_if_any(join_words(study.home))
        if detach:
            # Whoever says `stop` next is to find it.
            if not running and not wait_until_it_runs(
                study.home, start_controller(study.home, keys)
            ):
                return last_words(study, Left.DIED, study.state(), config, path)
            _say_detached(study.home.name, study.home.directory, as_json=as_json)
            return 0
        with make_view(as_json=as_json) as view:
            follower = Follower(study, view, bounds_of(config))
            process = None if running else start_controller(study.home, keys)
            left = follow(follower, presses, process=process)
    if as_json:
        print_json(gather(study, follower.state, bounds_of(config)))
    return last_words(study, left, follower.state, config, path)


def _say_what_to_expect(prepared: "Prepared", keyless: str) -> None:
    """Say what the run will come to, and what is odd about its models."""
    from infra.checks.night import night_words, slots_of
    from infra.local.keys import needs_models
    from trainer.gpu import NvmlGpus

    config, state = prepared.config, prepared.study.state()
    cards = len(NvmlGpus().look()) if config.trial.gpus else 0
    slots, odd = slots_of(config, state, cards=cards), ""
    if needs_models(config):
        from infra.checks.model_checks import most_usd_of, unknown_models

        words = night_words(config, state, slots=slots, price=most_usd_of(config))
        odd = unknown_models(config)
    else:
        words = night_words(config, state, slots=slots, price=lambda _: None)
    for line in (*words, odd, keyless):
        note_if_any(line)


def _reserve_ports(home: "StudyHome", config: "StudyConfig") -> None:
    """Have the ports that a firewall knows, if others are to come to this machine."""
    from infra.local.port_blocks import reserve
    from infra.processes.listening import ray_of

    if config.cluster.listen:
        port = int(config.cluster.listen.rpartition(":")[2])
        if news := reserve(home.directory, ray_of(home), listens_at=port):
            note(news)


def _say_who_waits_in_vain(home: "StudyHome", config: "StudyConfig") -> None:
    """Tell of machines that know another address; settings are still those of the last run."""
    from infra.local.settings import settings_if_any

    before = settings_if_any(home)
    if before and before.cluster.listen not in {"", config.cluster.listen}:
        cure = "join them again" if config.cluster.listen else "`run --listen` lets them in again"
        note(f"machines that joined at {before.cluster.listen} wait there in vain: {cure}")


def _say_detached(name: str, directory: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"study": name, "directory": str(directory)})
    else:
        note(f"study {name} runs; `incumbent watch` follows it, `stop` ends it")


def _warn_of_changes(old: "StudyConfig", new: "StudyConfig") -> None:
    from infra.local.settings import differences

    before, wanted = old.cluster.listen, new.cluster.listen
    if wanted not in {"", before}:
        what = f"listens at {before}, and not at {wanted}" if before else "lets no machine join"
        note(f"the study {what}: `incumbent stop`, then `incumbent run --listen={wanted}`")
    # That it is not said again changes nothing.
    cluster = new.cluster.model_copy(update={"listen": before})
    changed = differences(old, new.model_copy(update={"cluster": cluster}))
    if changed:
        names = ", ".join(changed)
        note(f"the study runs without the changes to {names}: `incumbent stop`, then run again")
