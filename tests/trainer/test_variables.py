"""What a trial sees of the worker's environment."""

import pytest

from trainer.variables import allowed_variables, network_variables


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "LC_ALL", "CUDA_HOME", "NVIDIA_DRIVER", "HF_HOME", "TORCH_HOME", "TZ"]
)
def test_what_training_needs_is_passed(name: str) -> None:
    assert allowed_variables({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "CUDA_api_key",
        "TORCH_SECRET",
        "NVIDIA_PASSWORD",
        "LC_CREDENTIALS",
        "UV_PUBLISH_TOKEN",
        "UV_INDEX_X_PASSWORD",
        "AWS_SESSION_TOKEN",
        "SSH_AUTH_SOCK",
        "RAY_ADDRESS",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "INCUMBENT_HOME",
        "GIT_DIR",
    ],
)
def test_secrets_and_what_is_ours_stay_here(name: str) -> None:
    assert allowed_variables({name: "x"}) == {}
    assert network_variables({name: "x"}) == {}


def test_the_thread_count_that_ray_sets_for_its_workers_is_not_the_trials() -> None:
    assert allowed_variables({"OMP_NUM_THREADS": "1"}) == {}


def test_only_preparations_learn_of_proxies_and_indices() -> None:
    environ = {"HTTPS_PROXY": "p", "no_proxy": "n", "UV_DEFAULT_INDEX": "i", "HOME": "h"}
    assert network_variables(environ) == {name: environ[name] for name in list(environ)[:3]}
    assert allowed_variables(environ) == {"HOME": "h"}
