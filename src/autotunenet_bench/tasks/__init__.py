"""Tasks: what is trained, on what, starting from which hyperparameters. One file a member, registered here."""

from autotunenet_bench.tasks.base import Task
from autotunenet_bench.tasks.digits_mlp import DigitsMlp
from autotunenet_bench.tasks.mnist_cnn import MnistCnn
from autotunenet_bench.tasks.mnist_cnn_poor_init import MnistCnnPoorInit

TASKS: dict[str, type[Task]] = {
    "mnist_cnn": MnistCnn,
    "mnist_cnn_poor_init": MnistCnnPoorInit,
    "digits_mlp": DigitsMlp,
}

__all__ = ["TASKS", "DigitsMlp", "MnistCnn", "MnistCnnPoorInit", "Task"]
