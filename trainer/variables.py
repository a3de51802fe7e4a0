"""Which of the worker's environment variables a trial may see.

A list of what is allowed rather than of what is not: a key that nobody thought of stays here.
"""

import re
from collections.abc import Mapping

_NAMES = frozenset(
    {
        # who and where
        "HOME",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "PATH",
        "TMPDIR",
        "TZ",
        "USER",
        # compilers and libraries, which torch.compile and Triton look for
        "CC",
        "CXX",
        "LD_LIBRARY_PATH",
        "LIBRARY_PATH",
        # caches and certificates
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TRANSFORMERS_CACHE",
        "UV_CACHE_DIR",
        "UV_PYTHON_INSTALL_DIR",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
    }
)
# Not OMP_NUM_THREADS: Ray sets it to 1 in its workers, which would starve every trial.
_PREFIXES = (
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "HF_",
    "JAX_",
    "LC_",
    "NCCL_",
    "NVIDIA_",
    "PYTORCH_",
    "TORCH",  # TORCH_HOME, TORCHINDUCTOR_CACHE_DIR
    "TRITON_",
    "XLA_",
)
_NETWORK_NAMES = frozenset({"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})
_NETWORK_PREFIXES = ("UV_",)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


def allowed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a trial is given of `environ`; no name that speaks of a secret passes."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name)
    }


def network_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what `uv sync` and `setup` are given besides: proxies and package indices."""
    return {
        name: value
        for name, value in environ.items()
        if (name.upper() in _NETWORK_NAMES or name.startswith(_NETWORK_PREFIXES))
        and not _SECRET.search(name)
    }
