"""Every mistake in a configuration is named with its key and its cure."""

from pathlib import Path

import pytest

from tests.cluster.config_text import LEAST, problems


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        # keys
        ("timeot_s = 3", "[trial] timeot_s: unknown key; did you mean timeout_s?"),
        ("xyzzy = 3", "[trial] xyzzy: unknown key; there are command, budget_s, timeout_s,"),
        ('goal = "minimize"', "[trial] goal: belongs in [metric]"),
        ("[tuner]\nspce = 1", "[tuner] spce: unknown key; did you mean space?"),
        ("[tuner.space.LR]\nlw = 1\nhigh = 2", "[tuner.space.LR] lw: unknown key; did you mean"),
        ('[[proposer]]\nkind = "tuner"\n[[proposer]]\nkind = "tuner"\nknd = 1',
         "[[proposer]] 2 knd: unknown key; did you mean kind?"),
        ("[[proposer]]", '[[proposer]] 1 kind: is missing, e.g. kind = "tuner"'),
        ('[[proposer]]\nkind = "gpt"',
         '[[proposer]] 1 kind: must be "tuner" or "claude" or "agent" or "crossover" or "replay"'),
        ("[[proposer]]\nkind = 3", '[[proposer]] 1 kind: must be "tuner" or "claude" or'),
        ('[[proposer]]\nkind = "claude"\nmodle = "x"',
         "[[proposer]] 1 modle: unknown key; did you mean model?"),
        ('[[proposer]]\nkind = "tuner"\neffort = "low"',
         '[[proposer]] 1 effort: there is none for kind "tuner"; it belongs in [[proposer]] of'),
        ('[[proposer]]\nkind = "agent"', "[[proposer]] 1 command: is missing, e.g. command = '"),
        ('[[proposer]]\nkind = "replay"',
         '[[proposer]] 1 file: is missing, e.g. file = "proposals.jsonl"'),
        ('[[proposer]]\nkind = "claude"\nbatch = 99',
         "[[proposer]] 1 batch: must be at most 16, not 99"),
        ('[[proposer]]\nkind = "claude"\neffort = "much"',
         '[[proposer]] 1 effort: must be "low" or "medium" or'),
        ('[[proposer]]\nkind = "claude"\nbase_url = "localhost:8000"',
         "[[proposer]] 1 base_url: is not the address of a server, e.g. http://127.0.0.1:8000"),
        ('[[proposer]]\nkind = "claude"\nbase_url = "http://[::1"',
         "[[proposer]] 1 base_url: is not the address of a server"),
        ('[[proposer]]\nkind = "claude"\nbase_url = "http://127.0.0.1:99999"',
         "[[proposer]] 1 base_url: is not the address of a server"),
        ('[[proposer]]\nkind = "claude"\nname = "My Model"',
         '[[proposer]] 1 name: "My Model" is not possible; allowed are small letters, digits'),
        ('[[proposer]]\nkind = "claude"\nname = "user"',
         '[[proposer]] 1 name: "user" is taken; choose another'),
        ('[[proposer]]\nkind = "replay"\nfile = "f"\nname = "c12"',
         '[[proposer]] 1 name: "c12" is what a call of a model is called; choose another'),
        ('[[proposer]]\nkind = "tuner"\n[[proposer]]\nkind = "claude"\nname = "tuner"',
         '[[proposer]] 2 name: "tuner" is what [[proposer]] 1 is called; give it another, e.g.'),
        ('[[proposer]]\nkind = "crossover"\nresolver = "claude"',
         '[[proposer]] 1 resolver: "claude" is no proposer of kind claude or agent; add one, or'),
        ('[[proposer]]\nkind = "claude"\n[[proposer]]\nkind = "crossover"\nresolver = "x"',
         '[[proposer]] 2 resolver: "x" is no proposer of kind claude or agent; there is claude'),
        ('[[price]]\nmodel = "x"\ninput = 1', "[[price]] 1 output: is missing, e.g. output = 15"),
        ('[[price]]\nmodel = "x"\ninput = 1\noutput = 2\n' * 2,
         '[[price]]: there are two for "x"; leave one'),
        ('[[guard]]\nname = "vram"\nmx = 1', "[[guard]] 1 mx: unknown key; did you mean max?"),
        # sections
        ("[limts]\nhours = 1", "[limts]: unknown section; did you mean [limits]?"),
        ("[xyzzy]\nhours = 1", "[xyzzy]: unknown section; there are [study], [metric], [trial],"),
        ('[proposer]\nkind = "tuner"',
         "[[proposer]]: must be written [[proposer]], its keys below; it is a table"),
        ('[[judge]]\npolicy = "greedy"',
         "[judge]: must be written [judge], its keys below; it is a list"),
        ("[tuner]\nspace = 3", "[tuner.space]: must be written [tuner.space], its keys"),
        ("[tuner.space]\nLR = 3", "[tuner.space.LR]: must be written [tuner.space.LR], its keys"),
        # types
        ('timeout_s = "600"', '[trial] timeout_s: must be a number, not the string "600"'),
        ("gpus = true", "[trial] gpus: must be a number, not true"),
        ("setup = 3", "[trial] setup: must be a string, not 3"),
        ("setup = {a = 1}", "[trial] setup: must be a string, not a table"),
        ('data = "x"', '[trial] data: must be a list of strings, not the string "x"'),
        ('data = ["/a", 1]', "[trial] data item 2: must be a string, not 1"),
        ("[cluster]\nslots = 4.5", "[cluster] slots: must be a whole number, not 4.5"),
        ('[judge]\nsimplicity = "yes"',
         '[judge] simplicity: must be true or false, not the string "yes"'),
        ('[tuner.space.LR]\nlow = "a"\nhigh = 1',
         '[tuner.space.LR] low: must be a number, not the string "a"'),
        ("[tuner.space.LR]\nchoices = [1, [2]]",
         "[tuner.space.LR] choices item 2: must be true or false or number or string, not a list"),
        ("setup = 2026-03-05", '[trial] setup: is a date or time; if text is meant, quote it'),
        # values
        ("timeout_s = -1", "[trial] timeout_s: must be above 0, not -1"),
        ("timeout_s = inf", "[trial] timeout_s: must be a finite number, not inf"),
        ("data = [nan]", "[trial] data item 1: must be a finite number, not nan"),
        ('data = ["data"]',
         "[trial] data item 1: must be an absolute path, or begin with ~, not 'data': trials run"),
        ("gpus = -0.5", "[trial] gpus: must be at least 0, not -0.5"),
        ("gpus = 1.5", "[trial]: gpus above 1 must be whole, not 1.5"),
        (
            'gpus = 0\ndevice = "RTX 4090"',
            "[trial]: device asks for RTX 4090, but with gpus = 0 there is no card",
        ),
        ("timeout_s = 1", "[trial]: timeout_s (1) must be at least budget_s (300)"),
        ("smoke_s = 300", "[trial]: smoke_s (300) must be less than budget_s (300)"),
        ("smoke_s = 0", "[trial] smoke_s: must be above 0, not 0"),
        ('environment = ""', "[trial] environment: must not be empty"),
        ("[cluster]\nmetrics_port = 99999", "[cluster] metrics_port: must be at most 65535, not"),
        ('[judge]\npolicy = "lucky"',
         '[judge] policy: must be "greedy" or "bayes" or "sequential", not "lucky"'),
        ('[tuner]\nsampler = "bayes"',
         '[tuner] sampler: must be "tpe" or "random" or "grid" or "cmaes" or "evolution" or "gp"'),
        ("[[guard]]\nmax = 3", '[[guard]] 1 name: is missing, e.g. name = "peak_vram_mb"'),
        ('[[guard]]\nname = "a b"\nmax = 3',
         '[[guard]] 1 name: "a b" is not possible; allowed are letters, digits, "_"'),
        ('[[guard]]\nname = "vram"', "[[guard]] 1: needs a min, a max or both"),
        ('[[guard]]\nname = "vram"\nmin = 3\nmax = 2',
         "[[guard]] 1: min (3) must not be above max (2)"),
        ('[[guard]]\nname = "val_loss"\nmin = 3',
         "[[guard]]: val_loss is the metric itself, which [metric] plausible bounds"),
        ('[[guard]]\nname = "a"\nmin = 1\n[[guard]]\nname = "a"\nmax = 2',
         "[[guard]]: there are two for a; join them"),
        ("[tuner.space.LR]\nlow = 3", "[tuner.space.LR]: needs both low and high"),
        ("[tuner.space.LR]\nlow = 3\nhigh = 1", "[tuner.space.LR]: low (3) must be below high (1)"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_key_and_cure(
    tmp_path: Path, added: str, expected: str
) -> None:
    (problem,) = problems(tmp_path, LEAST + added)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "mar5"', 'name = "a b"', '[study] name: "a b" is not possible; allowed are'),
        ('name = "mar5"', f'name = "{"a" * 70}"', "[study] name: is too long: 70 characters, of"),
        ('name = "mar5"', 'name = "a..b"', "[study] name: cannot be part of a git branch name"),
        ('name = "mar5"', "name = 2026-03-05", "[study] name: is a date or time; if text is meant"),
        ('name = "mar5"', 'name = "m"\neditable = []', "[study] editable: must not be empty"),
        ('name = "mar5"', 'name = "m"\neditable = ["../x"]',
         "[study] editable: '../x' is not a path inside the repository"),
        ('name = "val_loss"', 'name = "val loss"',
         '[metric] name: "val loss" is not possible; allowed are letters, digits, "_"'),
        ('goal = "minimize"', 'goal = "min"',
         '[metric] goal: must be "minimize" or "maximize", not "min"'),
        ('goal = "minimize"', "", '[metric] goal: is missing, e.g. goal = "minimize"'),
        ('goal = "minimize"', 'goal = "minimize"\npattern = "(a"',
         "[metric] pattern: is not a regular expression: missing )"),
        ('goal = "minimize"', 'goal = "minimize"\npattern = "a"',
         "[metric] pattern: must have exactly one group, the number; it has 0"),
        ('command = "python train.py"', 'command = "c"\nseed_pattern = "seed"',
         "[trial] seed_pattern: must have exactly one group, the number; it has 0"),
        ('command = "python train.py"', 'command = "c"\nseed_pattern = "(a)(b)"',
         "[trial] seed_pattern: must have exactly one group, the number; it has 2"),
        ('command = "python train.py"', 'command = "c"\nseed_pattern = "(a"',
         "[trial] seed_pattern: is not a regular expression: missing )"),
        ('command = "python train.py"', "",
         '[trial] command: is missing, e.g. command = "python train.py"'),
        ('[trial]\ncommand = "python train.py"\n', "",
         '[trial]: the section is missing; it needs command = "python train.py"'),
        ("[study]", "gpus = 1\n[study]", "gpus: belongs in [trial]"),
        ("[study]", "xyzzy = 1\n[study]", "xyzzy: stands above the first section; there are"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_is_required_is_named_too(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    (problem,) = problems(tmp_path, LEAST.replace(old, new, 1))
    assert problem.startswith(expected)


def test_every_problem_has_a_line_of_its_own(tmp_path: Path) -> None:
    text = LEAST + 'timeot_s = 1\nbudget_s = "1"\n[limits]\nhours = -1\n'
    assert [problem.split(":")[0] for problem in problems(tmp_path, text)] == [
        "[trial] budget_s",
        "[trial] timeot_s",
        "[limits] hours",
    ]


def test_an_empty_file_is_told_what_it_needs(tmp_path: Path) -> None:
    assert problems(tmp_path, "") == [
        '[study]: the section is missing; it needs name = "mar5"',
        '[metric]: the section is missing; it needs name = "val_loss", goal = "minimize"',
        '[trial]: the section is missing; it needs command = "python train.py"',
    ]


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f'{LEAST}gpus = "{"x" * 1000}"')
    assert len(problem) < 120
