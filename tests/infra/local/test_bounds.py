"""Limits and rungs as reading commands see them."""

from pathlib import Path

import pytest

from cluster.config_file import load_config
from infra.local.bounds import Bounds, bounds_if_any, bounds_of
from infra.local.home import StudyHome
from infra.local.settings import save_settings
from tests.infra.user import CONFIG

BOUNDED = """budget_s = 300
[limits]
experiments = 40
usd = 2.5
[[rung]]
budget_s = 30
keep = 0.25
[[rung]]
budget_s = 60
"""


@pytest.fixture
def home(tmp_path: Path) -> StudyHome:
    """The home of a study that has not run."""
    home = StudyHome(name="s", repository=tmp_path, directory=tmp_path / "study")
    home.directory.mkdir()
    return home


@pytest.mark.parametrize("more", [BOUNDED, ""])
def test_they_are_those_of_the_configuration(home: StudyHome, tmp_path: Path, more: str) -> None:
    (tmp_path / "incumbent.toml").write_text(CONFIG + more)
    config = load_config(tmp_path / "incumbent.toml")

    save_settings(home, config)

    assert bounds_if_any(home) == bounds_of(config)
    assert bool(bounds_of(config).rungs) == bool(more)
    assert dict(bounds_of(config).limits) == ({"experiments": 40, "usd": 2.5} if more else {})


@pytest.mark.parametrize(
    "settings", [None, "", "[]", "{}", '{"limits": [], "rung": []}', '{"limits": {}, "rung": [1]}']
)
def test_a_study_that_never_ran_or_whose_settings_are_strange_has_none(
    home: StudyHome, settings: str | None
) -> None:
    if settings is not None:
        home.settings.write_text(settings)
    assert bounds_if_any(home) == Bounds()
