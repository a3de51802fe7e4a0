"""The configuration file: what is read, and that every mistake is named with its cure."""

from pathlib import Path

import pytest

from cluster.config import StudyConfig
from cluster.config_file import ConfigError, load_config
from cluster.config_keys import ConfigKey, describe_keys
from proposer.config import ClaudeSource, names_of

LEAST = """
[study]
name = "mar5"
[metric]
name = "val_loss"
goal = "minimize"
[trial]
command = "python train.py"
"""

JARGON = (
    "pydantic",
    "Input should",
    "Value error",
    "Extra inputs",
    "type=",
    "NoneType",
    "Traceback",
)


def read(folder: Path, text: str) -> StudyConfig:
    path = folder / "incumbent.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert message == "\n".join(caught.value.problems)
    assert not [word for word in JARGON if word in message]
    prefix = f"{folder / 'incumbent.toml'}:"
    assert all(line.startswith(prefix) for line in message.splitlines())
    return [line.removeprefix(prefix).strip() for line in message.splitlines()]


def test_the_least_file_is_enough(tmp_path: Path) -> None:
    config = read(tmp_path, LEAST)
    assert config.study.name == "mar5"
    assert config.study.editable == ("train.py",)
    assert [proposer.kind for proposer in config.proposer] == ["tuner"]


def test_lists_and_whole_numbers_are_taken_where_tuples_and_floats_are_meant(
    tmp_path: Path,
) -> None:
    text = LEAST + 'budget_s = 60\ngpus = 0\ndata = ["~/.cache/a", "b"]\n[limits]\nhours = 8\n'
    config = read(tmp_path, text)
    assert (config.trial.budget_s, config.trial.gpus, config.limits.hours) == (60.0, 0.0, 8.0)
    assert config.trial.data == ("~/.cache/a", "b")


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
        ('data = ["a", 1]', "[trial] data item 2: must be a string, not 1"),
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


SCORED = LEAST.replace("[trial]", 'source = "predictions"\n[trial]')
LABELS = '[score]\nlabels = "~/labels.npy"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SCORED, 'source = "predictions" and a section [score] go together'),
        (LEAST + LABELS + 'metric = "mse"', 'source = "predictions" and a section [score] go'),
        (SCORED + '[score]\nmetric = "mse"',
         '[score] labels: is missing, e.g. labels = "~/labels/val.npy"'),
        (SCORED + '[score]\nlabels = "labels.npy"\nmetric = "mse"',
         "[score] labels: must be an absolute path, or begin with ~, not 'labels.npy'"),
        (SCORED + LABELS, "[score]: give either metric (ours) or command (your own scorer)"),
        (SCORED + LABELS + 'metric = "mse"\ncommand = "x"', "[score]: give either metric (ours)"),
        (SCORED + LABELS + 'metric = "acuracy"', "[score] metric: 'acuracy' is none of accuracy,"),
        (SCORED + LABELS + 'metric = "recall@0"', "[score] metric: 'recall@0' is none of"),
        (SCORED + LABELS + 'metric = "mse"\npredictions = "../a.npy"',
         "[score] predictions: is no path within $INCUMBENT_OUT"),
        (SCORED + LABELS + 'metric = "mse"\npredictions = "model.pt"',
         "[score]: model.pt must end in one of .npy, .npz, .safetensors, .jsonl"),
        (SCORED + LABELS + 'metric = "accuracy"',
         '[metric] goal must be "maximize" for [score] metric = "accuracy"'),
        (SCORED + LABELS + 'metric = "recall@5"', '[metric] goal must be "maximize" for [score]'),
    ],
)  # fmt: skip
def test_a_mistake_in_how_predictions_are_scored_is_named(
    tmp_path: Path, text: str, expected: str
) -> None:
    (problem,) = problems(tmp_path, text)
    assert expected in problem


RUNG = "[[rung]]\nbudget_s = 30\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LEAST + RUNG + RUNG, "[[rung]] budget_s must rise from rung to rung: 30 follows 30"),
        (LEAST + "budget_s = 30\n" + RUNG, "[[rung]] budget_s (30) must be less than [trial] budg"),
        (LEAST + "smoke_s = 30\n" + RUNG, "[trial] smoke_s (30) must be less than the budget_s of"),
        (LEAST + RUNG + "keep = 1.0", "[[rung]] 1 keep: must be below 1, not 1"),
        (LEAST + RUNG + "keep = 0", "[[rung]] 1 keep: must be above 0, not 0"),
        (LEAST + "[[rung]]\nkeep = 0.5", "[[rung]] 1 budget_s: is missing, e.g. budget_s = 30"),
        (LEAST + "[rung]\nbudget_s = 30", "[[rung]]: must be written [[rung]], its keys below"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(expected)


def test_rungs_are_read_in_their_order(tmp_path: Path) -> None:
    found = read(tmp_path, LEAST + RUNG + "[[rung]]\nbudget_s = 100\nkeep = 0.5\n").rungs()
    assert [(step.budget_s, step.keep) for step in found] == [(30.0, 0.33), (100.0, 0.5)]


def test_predictions_can_be_scored_by_our_metrics_or_the_users_script(tmp_path: Path) -> None:
    assert read(tmp_path, SCORED + LABELS + 'metric = "mse"').score.metric == "mse"
    own = read(tmp_path, SCORED + LABELS + 'command = "python score.py"\npredictions = "a/b.pt"')
    assert own.score.predictions == "a/b.pt"


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


BY_LABELS = (
    LEAST.replace('"minimize"', '"maximize"\nsource = "predictions"')
    + '[score]\nlabels = "/secret/val.npy"\nmetric = "accuracy"\n'
)


def test_a_final_run_is_like_a_trial_but_for_what_the_file_says(tmp_path: Path) -> None:
    text = LEAST + 'data = ["a"]\n[final]\nbudget_s = 900\ngpus = 2\ndata = ["b"]\n'
    config = read(tmp_path, text)
    trial = config.final.trial(config.trial)
    assert (trial.command, trial.gpus, trial.data) == ("python train.py", 2, ("a", "b"))
    assert trial.timeout_s - trial.budget_s == config.trial.timeout_s - config.trial.budget_s


def test_test_labels_and_a_holdout_are_scored_as_the_validation_is(tmp_path: Path) -> None:
    more = '[holdout]\nlabels = "/secret/h.npy"\n[final]\nlabels = "/secret/t.npy"\n'
    config = read(tmp_path, BY_LABELS + more)
    holdout, test = config.holdout_score(), config.test_score()
    assert holdout is not None
    assert test is not None
    assert (holdout.predictions, holdout.labels) == ("holdout.npy", "/secret/h.npy")
    assert (test.predictions, test.labels) == ("test.npy", "/secret/t.npy")
    assert {holdout.metric, test.metric} == {"accuracy"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            LEAST + '[final]\nlabels = "/secret/t.npy"\n',
            "[final] labels needs a section [score], which says how to score",
        ),
        (
            LEAST + '[holdout]\nlabels = "/secret/t.npy"\n',
            "[holdout] needs a section [score], which says how to score",
        ),
        (
            BY_LABELS + '[holdout]\nlabels = "/secret/h.txt"\n',
            "[holdout] /secret/h.txt must end in one of .npy, .npz, .safetensors, .jsonl",
        ),
        (
            LEAST + "[final]\nbudget_s = 900\ntimeout_s = 5\n",
            "[final] timeout_s (5) must be at least budget_s (900)",
        ),
        (LEAST + "[final]\ngpus = 1.5\n", "[final] gpus above 1 must be whole, not 1.5"),
    ],
)
def test_what_cannot_be_scored_or_run_at_the_end_is_told_at_the_beginning(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert problems(tmp_path, text) == [problem]


ASKED = BY_LABELS + 'predict = "python predict.py"\ninputs = "/data/val"\n'


def test_a_model_is_asked_of_all_that_is_scored_each_of_inputs_of_its_own(tmp_path: Path) -> None:
    more = (
        '[holdout]\nlabels = "/secret/h.npy"\ninputs = "/data/h"\n'
        '[final]\nlabels = "/secret/t.npy"\ninputs = "/data/t"\n'
    )
    config = read(tmp_path, ASKED + more)
    inputs = [score.inputs for score in config.scores().values()]
    assert inputs == ["/data/val", "/data/h", "/data/t"]
    assert {score.predict for score in config.scores().values()} == {"python predict.py"}
    assert [*config.asked_besides("[holdout]")] == ["[holdout]"]
    assert not read(tmp_path, BY_LABELS + '[holdout]\nlabels = "/h.npy"').asked_besides("[holdout]")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BY_LABELS + 'predict = "python predict.py"\n',
         "[score]: needs inputs, a file or folder that [score] predict is given"),
        (BY_LABELS + 'inputs = "/data/val"\n',
         "[score]: inputs are for [score] predict, and that is not there"),
        (ASKED.replace("predict.py", "'predict.py"),
         "[score] predict: \"python 'predict.py\" cannot be split: No closing quotation"),
        (ASKED.replace("/data/val", "data/val"), "[score] inputs: must be an absolute path"),
        (ASKED + '[holdout]\nlabels = "/secret/h.npy"\n',
         "[holdout] needs inputs, a file or folder that [score] predict is given"),
        (BY_LABELS + '[holdout]\nlabels = "/secret/h.npy"\ninputs = "/data/h"\n',
         "[holdout] inputs are for [score] predict, and that is not there"),
        (ASKED + '[final]\nlabels = "/secret/t.npy"\n', "[final] needs inputs"),
        (ASKED + '[final]\ninputs = "/data/t"\n',
         "[final] inputs are of no use without [final] labels"),
        (ASKED + '[holdout]\nlabels = "/h.npy"\ninputs = "/h"\npredictions = "predictions.npy"\n',
         "[score], [holdout] and [final] predictions need different names"),
        (ASKED.replace("predict.py", "./train.py --predict"),
         "[score] predict names train.py, which candidates may change"),
        (ASKED.replace("predict.py", "-m train"), "[score] predict names train.py, which"),
    ],
)  # fmt: skip
def test_a_mistake_in_how_models_are_asked_is_named(
    tmp_path: Path, text: str, problem: str
) -> None:
    (told,) = problems(tmp_path, text)
    assert told.startswith(problem)
