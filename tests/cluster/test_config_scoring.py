"""How predictions are scored and models are asked, in a trial and at the end."""

from pathlib import Path

import pytest

from tests.cluster.config_text import LABELS, LEAST, SCORED, problems, read


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


def test_predictions_can_be_scored_by_our_metrics_or_the_users_script(tmp_path: Path) -> None:
    assert read(tmp_path, SCORED + LABELS + 'metric = "mse"').score.metric == "mse"
    own = read(tmp_path, SCORED + LABELS + 'command = "python score.py"\npredictions = "a/b.pt"')
    assert own.score.predictions == "a/b.pt"


BY_LABELS = (
    LEAST.replace('"minimize"', '"maximize"\nsource = "predictions"')
    + '[score]\nlabels = "/secret/val.npy"\nmetric = "accuracy"\n'
)


def test_a_final_run_is_like_a_trial_but_for_what_the_file_says(tmp_path: Path) -> None:
    text = LEAST + 'data = ["/a"]\n[final]\nbudget_s = 900\ngpus = 2\ndata = ["/b"]\n'
    config = read(tmp_path, text)
    trial = config.final.trial(config.trial)
    assert (trial.command, trial.gpus, trial.data) == ("python train.py", 2, ("/a", "/b"))
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
