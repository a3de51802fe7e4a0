"""Constants read as a study reads them: by a process that may die of it."""

import pytest

from proposer.knobs_apart import read_python_apart
from proposer.python_knobs import read_python

TRAIN = """\
LR = 3e-4  # range: 1e-4..1e-2 log
OPT = "adam"  # choices: adam, sgd
BETAS = (0.9, 0.95)
COMPILE = True
DEPTH = 2**3
"""


def test_nothing_is_lost_on_the_way() -> None:
    assert list(read_python_apart("train.py", TRAIN)) == read_python("train.py", TRAIN)


def test_what_is_not_python_is_named_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"train\.py, line 2: "):
        read_python_apart("train.py", "LR = 1\nDEPTH = = 2\n")


def test_a_source_that_its_parser_dies_of_is_an_error_like_any() -> None:
    source = f"LR = 1.0\nx = 1{' and 1' * 20_000}\n"
    compile(source, "train.py", "exec")  # Python itself runs it
    with pytest.raises(ValueError, match=r"^train\.py: its constants could not be read: it died"):
        read_python_apart("train.py", source)
