"""What each key of the configuration is said to be."""

from pathlib import Path

import pytest

from cluster.config_keys import ConfigKey, describe_keys
from tests.cluster.config_text import problems, read


@pytest.mark.parametrize(
    "key", describe_keys(), ids=lambda key: f"{key.section} {key.kind} {key.name}"
)
def test_every_key_has_a_type_and_an_explanation(key: ConfigKey) -> None:
    assert key.type
    assert key.text.endswith(".") or key.text.endswith("`.")
    assert "\n" not in key.text


def test_keys_are_described_section_by_section() -> None:
    keys = {(key.section, key.name): key for key in describe_keys()}
    assert keys["[study]", "name"].is_required
    assert keys["[study]", "editable"].default == '["train.py"]'
    assert keys["[study]", "editable"].type == "list of strings, not empty"
    assert keys["[metric]", "goal"].type == '"minimize" or "maximize"'
    assert keys["[trial]", "budget_s"].type == "number, above 0"
    assert keys["[trial]", "budget_s"].default == "300"
    assert keys["[[proposer]]", "kind"].is_required
    assert (keys["[[proposer]]", "name"].kind, keys["[[proposer]]", "effort"].kind) == (
        "",
        "claude",
    )
    assert keys["[tuner.space.NAME]", "low"].default == "unset"
    assert keys["[cluster]", "metrics_port"].type == "whole number, at least -1, at most 65535"


def test_the_examples_that_errors_give_are_possible(tmp_path: Path) -> None:
    needed = [problem.split(" needs ")[1] for problem in problems(tmp_path, "")]
    text = "".join(
        f"[{section}]\n" + "\n".join(example.split(", ")) + "\n"
        for section, example in zip(("study", "metric", "trial"), needed, strict=True)
    )
    assert read(tmp_path, text).study.name == "mar5"
