"""Labels that do not mean what the network answers are told before a search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skipc.compiler.errors import SelectError
from skipc.compiler.read.recorded import recorded_accuracy
from skipc.compiler.select.data import Data
from skipc.compiler.select.labels import doubt
from skipc.compiler.select.metrics import check_outputs, find_metric
from skipc.compiler.select.samples import Parts, Samples
from skipc.runtime.bundle.tensors import TensorSpec

CLASSES = 12
ANSWERS = np.repeat(np.arange(CLASSES), 8)
"""Of a network that is right on every image."""


def test_right_labels_are_not_doubted():
    assert doubt(ANSWERS, ANSWERS) == ""
    wrong = ANSWERS.copy()
    wrong[::5] = 0
    assert doubt(wrong, ANSWERS) == ""


def test_labels_in_another_order_are_told_with_what_the_network_answers():
    order = np.array(sorted(range(CLASSES), key=str))
    told = doubt(ANSWERS, np.argsort(order)[ANSWERS])
    assert told.startswith("is right on 16.7 %, but ")
    assert "it answers 10 where the label is 2, 11 where the label is 3" in told
    assert told.endswith("…: numbered so, it would be right on 100.0 %.")


@pytest.mark.parametrize("missing", [0, 5, 10])
def test_labels_behind_a_missing_class_are_told(missing):
    answers = ANSWERS[missing != ANSWERS]
    assert "numbered so, it would be right on 100.0 %" in doubt(
        answers, answers - (answers > missing)
    )


def test_labels_that_begin_at_one_are_told():
    answers = ANSWERS[ANSWERS < CLASSES - 1]
    assert "it answers 0 where the label is 1, 1 where the label is 2" in doubt(
        answers, answers + 1
    )


def test_two_classes_that_the_network_confuses_are_no_other_order():
    answers = np.where(ANSWERS < 3, 3, ANSWERS)
    assert doubt(answers, ANSWERS) == ""


def test_few_samples_of_many_classes_say_nothing_of_their_order():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 800)
    answers = np.where(rng.random(800) < 0.76, labels, rng.integers(0, 1000, 800))
    assert doubt(answers, labels) == ""


def test_network_near_chance_is_told():
    rng = np.random.default_rng(0)
    told = doubt(rng.integers(0, 2, 400), np.repeat([0, 1], 200))
    assert "always giving the most frequent label would be right on 50.0 %" in told


def test_accuracy_that_the_checkpoint_records_is_compared():
    answers = np.where(np.arange(len(ANSWERS)) % 3 == 0, 0, ANSWERS)
    assert doubt(answers, ANSWERS) == ""
    assert "the checkpoint says 93.1 % ('best_acc1')" in doubt(
        answers, ANSWERS, ("best_acc1", 0.931)
    )
    assert doubt(answers, ANSWERS, ("best_acc1", 0.72)) == ""


@pytest.mark.parametrize(
    ("beside", "found"),
    [
        ({"best_acc1": torch.tensor([76.1])}, ("best_acc1", 0.761)),
        ({"val_accuracy": 0.9, "train_acc": 0.99, "acc5": 99.0}, ("val_accuracy", 0.9)),
        ({"metrics": {"top1": 81.0, "loss": 0.7}}, ("metrics.top1", 0.81)),
        ({"acc1": 70.0, "best_acc1": 72.0}, ("acc1", 0.7)),
        ({"acc": 0.9, "model": {"phase": torch.tensor([1j])}}, ("acc", 0.9)),
        ({"epoch": 3, "accumulate": 2, "accuracy": "high"}, None),
    ],
)
def test_record_of_a_training_script_is_read(tmp_path, beside, found):
    torch.save({"state_dict": {"w": torch.zeros(3)}, **beside}, tmp_path / "c.pt")
    told = recorded_accuracy(tmp_path / "c.pt")
    assert told == (None if found is None else (found[0], pytest.approx(found[1])))


def data(targets, classes=()):
    part = Samples({}, np.asarray(targets))
    return Data(Parts(part, part, part), "", "images", classes)


LOGITS = (TensorSpec("logits", "float32", (1, 3)),)


def test_number_of_folders_is_that_of_the_outputs():
    metric = find_metric("top1", data([0, 1, 2]).parts.selection)
    check_outputs(metric, data([0, 1], ("a", "b", "c")), LOGITS)
    with pytest.raises(SelectError, match="2 folders, but the network has 3 outputs"):
        check_outputs(metric, data([0, 1], ("a", "b")), LOGITS)


def test_labels_outside_are_refused_and_those_from_one_told():
    metric = find_metric("top1", data([0, 1, 2]).parts.selection)
    with pytest.raises(SelectError, match=r"label 3 is outside .* begin at 1: subtract it"):
        check_outputs(metric, data([1, 2, 3]), LOGITS)
    with pytest.raises(SelectError, match=r"label -1 is outside the network's 3 outputs"):
        check_outputs(metric, data([-1, 2]), LOGITS)


@pytest.mark.parametrize(
    ("targets", "mend"),
    [
        (np.array([0.0, 2.0]), r"y\.reshape\(-1\)\.astype\(int\)"),
        (np.array([[0], [2]]), r"y\.reshape\(-1\)\.astype\(int\)"),
        (np.eye(3)[[0, 2, 1]], r"one-hot: give the class numbers, y\.argmax\(1\)"),
        (np.array([0.25, 2.5]), "For targets that are no classes give a metric"),
        (np.array([[1, 0, 1], [1, 1, 0]]), "For several labels per sample give a metric"),
    ],
)
def test_targets_that_are_no_class_numbers_are_refused_with_the_mend(targets, mend):
    with pytest.raises(SelectError, match=mend):
        find_metric("top1", Samples({}, targets))
