"""Networks that are more than a few lines. They know nothing of tasks, data or configs: only torch."""

from autotunenet_bench.models.bert import BertClassifier
from autotunenet_bench.models.bilstm import BiLstmClassifier
from autotunenet_bench.models.resnet import Bottleneck, ResNet

__all__ = ["BertClassifier", "BiLstmClassifier", "Bottleneck", "ResNet"]
