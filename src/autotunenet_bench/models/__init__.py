"""Networks that are more than a few lines. They know nothing of tasks, data or configs: only torch."""

from autotunenet_bench.models.bilstm import BiLstmClassifier
from autotunenet_bench.models.resnet import ResNet

__all__ = ["BiLstmClassifier", "ResNet"]
