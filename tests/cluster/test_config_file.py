"""The configuration file: what is read, and what is no such file."""

from pathlib import Path

import pytest

from cluster.config_file import ConfigError, load_config
from proposer.config import ClaudeSource, names_of
from tests.cluster.config_text import LEAST, problems, read


def test_the_least_file_is_enough(tmp_path: Path) -> None:
    config = read(tmp_path, LEAST)
    assert config.study.name == "mar5"
    assert config.study.editable == ("train.py",)
    assert [proposer.kind for proposer in config.proposer] == ["tuner"]


def test_lists_and_whole_numbers_are_taken_where_tuples_and_floats_are_meant(
    tmp_path: Path,
) -> None:
    text = LEAST + 'budget_s = 60\ngpus = 0\ndata = ["~/.cache/a", "/b"]\n[limits]\nhours = 8\n'
    config = read(tmp_path, text)
    assert (config.trial.budget_s, config.trial.gpus, config.limits.hours) == (60.0, 0.0, 8.0)
    assert config.trial.data == ("~/.cache/a", "/b")


def test_nested_tables_are_read(tmp_path: Path) -> None:
    text = LEAST + '[tuner.space.LR]\nlow = 0.1\nhigh = 1\n[tuner.space.ACT]\nchoices = ["a", 2]\n'
    space = read(tmp_path, text).tuner.space
    assert (space["LR"].low, space["LR"].high) == (0.1, 1)
    assert space["ACT"].choices == ("a", 2)


def test_an_empty_list_of_proposers_is_possible(tmp_path: Path) -> None:
    assert read(tmp_path, "proposer = []\n" + LEAST).proposer == ()


def test_proposers_of_several_kinds_have_keys_and_names_of_their_own(tmp_path: Path) -> None:
    text = LEAST + (
        '[[proposer]]\nkind = "claude"\nmodel = "claude-sonnet-5-5"\ntemperature = 1\n'
        '[[proposer]]\nkind = "claude"\n[[proposer]]\nkind = "tuner"\n'
        '[[proposer]]\nkind = "agent"\nname = "me"\ncommand = \'claude -p hello\'\n'
        '[[proposer]]\nkind = "crossover"\nresolver = "claude-2"\n'
    )
    sources = read(tmp_path, text).proposer
    assert names_of(sources) == ("claude", "claude-2", "tuner", "me", "crossover")
    assert isinstance(sources[0], ClaudeSource)
    assert (sources[0].model, sources[0].temperature) == ("claude-sonnet-5-5", 1.0)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "incumbent.toml"
    path.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert load_config(path).study.name == "mar5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[study", "1: is not valid TOML: Expected ']'"),
        ('[study]\nname = "a\n', "2: is not valid TOML: "),
        ("[study]\n\nname =", "3: is not valid TOML: Invalid value"),
        ("[metric]\ngoal = minimize # less\n", "2: is not valid TOML: Invalid value (text goes in"),
        ("a = py x.py\n", '1: is not valid TOML: Invalid value (text goes in quotes: a = "py'),
        ('[study]\nname = "a"\nname = "b"', "3: is not valid TOML: Cannot overwrite a value"),
        ("[limits]\nhours = " + "9" * 5000, "is not valid TOML: a value is out of all bounds"),
        ("a = " + "[" * 5000, "is not valid TOML: a value is out of all bounds"),
    ],
)
def test_what_is_not_toml_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(expected)


def test_what_is_not_text_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "incumbent.toml"
    path.write_bytes(b'[study]\nname = "\xff"\n')
    with pytest.raises(ConfigError, match=r"incumbent\.toml:2: is not UTF-8 text"):
        load_config(path)


def test_a_missing_file_leads_to_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file; `incumbent init` writes one"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
