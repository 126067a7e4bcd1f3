"""F1 and top-5 accuracy of an evaluation against scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, top_k_accuracy_score

from autotunenet_bench.tasks import TASKS, DigitsMlp
from autotunenet_bench.tasks.tally import METRICS, Tally, f1, top5_accuracy


def drawn(num_classes, num, seed, lean=1.0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(num_classes, size=num)
    logits = rng.permuted(np.tile(np.arange(num_classes), (num, 1)), axis=1).astype(float)  # no two alike
    logits[np.arange(num), targets] += lean * rng.normal(size=num) + 0.25
    return logits, targets


def tally_of(logits, targets, batch_size):
    tally = Tally(logits.shape[1])
    for start in range(0, len(targets), batch_size):
        part = slice(start, start + batch_size)
        tally.add(torch.from_numpy(logits[part]), torch.from_numpy(targets[part]))
    return tally


@given(st.integers(2, 12), st.integers(1, 60), st.integers(1, 25), st.integers(0, 1000))
@settings(max_examples=40)
def test_they_are_those_of_scikit_learn_whatever_the_batches(num_classes, num, batch_size, seed):
    logits, targets = drawn(num_classes, num, seed)
    tally, predicted, labels = tally_of(logits, targets, batch_size), logits.argmax(1), range(num_classes)
    assert tally.confusion.tolist() == confusion_matrix(targets, predicted, labels=labels).tolist()
    assert tally.count == num
    average = "binary" if num_classes == 2 else "macro"
    expected = f1_score(targets, predicted, labels=labels, average=average, zero_division=0)
    assert f1(tally) == pytest.approx(expected)
    if num_classes > 5:
        assert top5_accuracy(tally) == pytest.approx(top_k_accuracy_score(targets, logits, k=5, labels=labels))
    else:
        assert top5_accuracy(tally) == 1.0


def test_f1_is_zero_where_nothing_is_taken_for_the_positive_class():
    tally = tally_of(np.array([[1.0, 0.0]] * 3), np.array([1, 0, 0]), 3)
    assert f1(tally) == 0.0
    assert f1(tally_of(np.array([[1.0, 0.0]]), np.array([0]), 1)) == 0.0  # nor is there any


def test_a_task_gives_what_it_names_and_the_others_as_ever():
    class Told(DigitsMlp):
        more_metrics = ("f1", "top5_accuracy")

    data, _ = DigitsMlp().load(None)
    models = [task.build(task.defaults, 0, data).model for task in (Told(), DigitsMlp())]
    told, plain = Told().evaluate(models[0], data.val), DigitsMlp().evaluate(models[1], data.val)
    assert list(plain) == ["loss", "accuracy"]
    assert list(told) == ["loss", "accuracy", "f1", "top5_accuracy"]
    assert {name: told[name] for name in plain} == plain
    with torch.inference_mode():
        logits = torch.cat([models[0].eval()(inputs) for inputs, _ in data.val.epoch(1)]).numpy()
    expected = f1_score(data.val.targets, logits.argmax(1), labels=range(10), average="macro", zero_division=0)
    assert told["f1"] == pytest.approx(expected)
    assert told["top5_accuracy"] == pytest.approx(top_k_accuracy_score(data.val.targets, logits, k=5))


@pytest.mark.parametrize("name", TASKS)
def test_tasks_name_metrics_that_there_are(name):
    assert set(TASKS[name].more_metrics) <= set(METRICS)
    assert "top5_accuracy" not in TASKS[name].more_metrics or TASKS[name].num_classes > 5
