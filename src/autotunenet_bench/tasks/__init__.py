"""Tasks: what is trained, on what, starting from which hyperparameters. One file a member, registered here."""

from autotunenet_bench.tasks.base import Task
from autotunenet_bench.tasks.cifar10_resnet18 import Cifar10ResNet18
from autotunenet_bench.tasks.cifar10_resnet18_small import Cifar10ResNet18Small
from autotunenet_bench.tasks.digits_mlp import DigitsMlp
from autotunenet_bench.tasks.imdb_bilstm import ImdbBiLstm
from autotunenet_bench.tasks.imdb_bilstm_small import ImdbBiLstmSmall
from autotunenet_bench.tasks.mnist_cnn import MnistCnn
from autotunenet_bench.tasks.mnist_cnn_poor_init import MnistCnnPoorInit
from autotunenet_bench.tasks.mnist_cnn_small import MnistCnnSmall

TASKS: dict[str, type[Task]] = {
    "mnist_cnn": MnistCnn,
    "mnist_cnn_poor_init": MnistCnnPoorInit,
    "mnist_cnn_small": MnistCnnSmall,
    "digits_mlp": DigitsMlp,
    "cifar10_resnet18": Cifar10ResNet18,
    "cifar10_resnet18_small": Cifar10ResNet18Small,
    "imdb_bilstm": ImdbBiLstm,
    "imdb_bilstm_small": ImdbBiLstmSmall,
}

__all__ = [
    "TASKS",
    "Cifar10ResNet18",
    "Cifar10ResNet18Small",
    "DigitsMlp",
    "ImdbBiLstm",
    "ImdbBiLstmSmall",
    "MnistCnn",
    "MnistCnnPoorInit",
    "MnistCnnSmall",
    "Task",
]
