"""Tasks: what is trained, on what, starting from which hyperparameters. One file a member, registered here."""

from autotunenet_bench.tasks.base import Task
from autotunenet_bench.tasks.cifar10_resnet18 import Cifar10ResNet18
from autotunenet_bench.tasks.cifar10_resnet18_small import Cifar10ResNet18Small
from autotunenet_bench.tasks.cifar10_resnet50 import Cifar10ResNet50
from autotunenet_bench.tasks.cifar10_resnet50_small import Cifar10ResNet50Small
from autotunenet_bench.tasks.digits_mlp import DigitsMlp
from autotunenet_bench.tasks.imdb_bilstm import ImdbBiLstm
from autotunenet_bench.tasks.imdb_bilstm_small import ImdbBiLstmSmall
from autotunenet_bench.tasks.mnist_cnn import MnistCnn
from autotunenet_bench.tasks.mnist_cnn_poor_init import MnistCnnPoorInit
from autotunenet_bench.tasks.mnist_cnn_small import MnistCnnSmall
from autotunenet_bench.tasks.mrpc_bert import MrpcBert
from autotunenet_bench.tasks.mrpc_bert_small import MrpcBertSmall
from autotunenet_bench.tasks.sst2_bert import Sst2Bert
from autotunenet_bench.tasks.sst2_bert_small import Sst2BertSmall

TASKS: dict[str, type[Task]] = {
    "mnist_cnn": MnistCnn,
    "mnist_cnn_poor_init": MnistCnnPoorInit,
    "mnist_cnn_small": MnistCnnSmall,
    "digits_mlp": DigitsMlp,
    "cifar10_resnet18": Cifar10ResNet18,
    "cifar10_resnet18_small": Cifar10ResNet18Small,
    "cifar10_resnet50": Cifar10ResNet50,
    "cifar10_resnet50_small": Cifar10ResNet50Small,
    "imdb_bilstm": ImdbBiLstm,
    "imdb_bilstm_small": ImdbBiLstmSmall,
    "sst2_bert": Sst2Bert,
    "sst2_bert_small": Sst2BertSmall,
    "mrpc_bert": MrpcBert,
    "mrpc_bert_small": MrpcBertSmall,
}

__all__ = [
    "TASKS",
    "Cifar10ResNet18",
    "Cifar10ResNet18Small",
    "Cifar10ResNet50",
    "Cifar10ResNet50Small",
    "DigitsMlp",
    "ImdbBiLstm",
    "ImdbBiLstmSmall",
    "MnistCnn",
    "MnistCnnPoorInit",
    "MnistCnnSmall",
    "MrpcBert",
    "MrpcBertSmall",
    "Sst2Bert",
    "Sst2BertSmall",
    "Task",
]
