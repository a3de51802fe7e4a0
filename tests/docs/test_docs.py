"""The documentation says what the program does, names all of it, and points at what is there."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from cluster.config_keys import describe_keys
from cluster.state.events import EVENT_TYPES
from cluster.state.experiment import Kind, Status, TrialPhase
from eval.conditions import Mark
from eval.judge import Verdict
from infra.metrics.prometheus import describe_metrics
from tests.docs.generate import (
    DOCS,
    FILES,
    PAGES,
    ROOT,
    MissingSection,
    fields,
    rendered,
    verbs,
)
from trainer.telemetry import ThrottleReason
from trainer.trial import CrashKind, Ending

DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
COMMAND = re.compile(r"(?<![-\w./])incumbent ([a-z][-a-z]*)\b([^\n`;|#]*)")
MACHINE_PATH = re.compile(r"(?<![\w.~$])(?:/(?:home|root|Users|work|mnt|opt|var)/|[A-Z]:\\)")

document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def section(text: str, heading: str) -> str:
    """Return what stands between a heading and the next one of its level or above."""
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    level = heading.partition(" ")[0]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


# --- completeness --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_no_generated_section_is_stale(name: str) -> None:
    assert rendered(page(name), PAGES[name]) == page(name), "run: make docs"


@pytest.mark.parametrize("name", FILES)
def test_no_generated_file_is_stale(name: str) -> None:
    assert FILES[name]() == page(name), "run: make docs"


def test_every_verb_with_every_option_is_in_the_command_reference() -> None:
    for verb, command in verbs().items():
        text = section(page("commands.md"), f"### {verb}")
        for parameter in command.params:
            for spelling in parameter.opts:
                assert re.search(rf"[`, ]{spelling}\b", text), f"{verb} {spelling}"


def test_every_verb_speaks_json() -> None:
    silent = {verb for verb, command in verbs().items()
              if not any("--json" in parameter.opts for parameter in command.params)}  # fmt: skip
    assert not silent


def test_every_configuration_key_is_in_the_reference_with_its_meaning() -> None:
    for key in describe_keys():
        text = section(page("configuration.md"), f"### `{key.section}`")
        assert key.text, f"{key.section} {key.name} has no docstring"
        assert f"| `{key.name}` |" in text, f"{key.section} {key.name}"


def test_every_event_is_documented_with_its_fields() -> None:
    for name, event in EVENT_TYPES.items():
        text = section(page("states-and-events.md"), f"### {name}")
        assert [field.name for field in fields(event)] == list(event.__dataclass_fields__)
        for field in event.__dataclass_fields__:
            assert f"- `{field}` " in text, f"{name}.{field}"


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("## Statuses of an experiment", Status),
        ("## Endings of a trial", Ending),
        ("## Endings of a trial", CrashKind),
        ("## Endings of a trial", TrialPhase),
        ("## Kinds of experiments", Kind),
        ("## Verdicts", Verdict),
        ("## Telemetry of a trial", ThrottleReason),
        ("## Telemetry of a trial", Mark),
    ],
)
def test_every_state_is_documented(heading: str, kind: type[StrEnum]) -> None:
    text = section(page("states-and-events.md"), heading)
    assert [member for member in kind if f"| `{member.value}` |" not in text] == []


def test_every_final_status_says_what_becomes_of_its_row() -> None:
    text = section(page("states-and-events.md"), "## Statuses of an experiment")
    for status in Status:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{status.value}` |"))
        says_row = row.endswith(("| `keep` |", "| `discard` |", "| `crash` |", "| no row |"))
        assert says_row is status.is_terminal


def test_every_metric_is_documented() -> None:
    assert [m.name for m in describe_metrics() if f"| `{m.name}` |" not in page("metrics.md")] == []


def test_a_stale_section_is_replaced_and_the_prose_around_it_is_kept() -> None:
    old = "before\n<!-- generated: x -->\nold\n<!-- end: x -->\nafter\n"
    new = "before\n<!-- generated: x -->\n\nnew\n\n<!-- end: x -->\nafter\n"
    assert rendered(old, {"x": lambda: "new\n"}) == new
    assert rendered(new, {"x": lambda: "new\n"}) == new


def test_a_page_that_lost_its_markers_is_an_error() -> None:
    with pytest.raises(MissingSection, match="generated: x"):
        rendered("before\n<!-- end: x -->\n", {"x": lambda: "new"})


# --- truth ---------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the verb and the options of each command of ours that stands in code."""
    for code in re.findall(r"```.*?```|`[^`]+`|^    .*$", text, re.DOTALL | re.MULTILINE):
        for verb, rest in COMMAND.findall(code):
            yield verb, re.findall(r"(?<!\S)--?[a-z][-a-z]*", rest)


@document
def test_commands_that_are_shown_exist(path: Path) -> None:
    for verb, options in commands(path.read_text("utf-8")):
        assert verb in verbs(), f"incumbent {verb}"
        known = {"--help", *(name for p in verbs()[verb].params for name in p.opts)}
        assert set(options) <= known, f"incumbent {verb} {options}"


def test_the_readme_shows_the_commands_that_begin_everything() -> None:
    shown = {verb for verb, _ in commands((ROOT / "README.md").read_text("utf-8"))}
    assert {"init", "run", "status", "submit", "stop", "doctor"} <= shown


@document
def test_make_targets_that_are_shown_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z]+)", path.read_text("utf-8"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@document
def test_links_and_images_lead_somewhere_and_nothing_is_loaded_from_outside(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "<img" not in text
    for is_image, target in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text):
        if "://" in target:
            assert not is_image, target
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{path.name} links to {target}"


def anchors(path: Path) -> set[str]:
    """Return the names that a forge gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@document
def test_no_path_of_somebodys_machine_is_shown(path: Path) -> None:
    assert not MACHINE_PATH.search(path.read_text("utf-8"))


def test_every_decision_is_listed() -> None:
    listed = (DOCS / "decisions" / "README.md").read_text("utf-8")
    for path in (DOCS / "decisions").glob("[0-9]*.md"):
        number, title = re.match(r"# (\d+)\. (.+)", path.read_text("utf-8")).groups()
        assert path.name.startswith(f"{int(number):03}-")
        assert f"{number}. [{title}]({path.name})" in listed
