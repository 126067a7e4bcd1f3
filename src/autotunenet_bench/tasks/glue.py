"""What the tasks on GLUE share: a pretrained encoder of BERT's kind that is fine-tuned."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from autotunenet_bench.data import DataError, DataSource
from autotunenet_bench.data.glue import Amounts, load_glue
from autotunenet_bench.data.pretrained import Pretrained, find_pretrained
from autotunenet_bench.models import BertClassifier
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, PretrainedModel, TaskData

MODEL = (
    "the pretrained model: bert-base-uncased, all-MiniLM-L6-v2, or a folder, with a slash in its name, that holds "
    "config.json, model.safetensors and tokenizer.json of a model of BERT's kind"
)
POOLING = "what of a text is classified: the first token's state through the pretrained pooler (cls), or the mean state"
MAX_LENGTH = "tokens after which a text, or a pair, is cut"
NUM_TRAIN = "training examples that are used, of every class alike; null: all"
NUM_VAL = "validation examples that are used, of every class alike; null: all"
"""Descriptions of fields whose defaults are others in the small tasks."""

MAX_PLACES = 512
"""Tokens of a text that BERT can read, where its config does not say."""

_DEFAULT_LR = {"adam": 2e-5, "adamw": 2e-5, "sgd": 0.01}


class GlueBase(Task):
    """A pretrained encoder and a new last layer, trained together. Has no name, and so is no member itself."""

    num_classes: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("transformers", "tokenizers")
    more_metrics: ClassVar[tuple[str, ...]] = ("f1",)
    data_set: ClassVar[str]
    """A key of `autotunenet_bench.data.glue.GLUE`."""

    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="the optimizer that trains the model")
    lr: float | None = Field(None, gt=0, description="initial lr; null: 2e-5 for adam and adamw, 0.01 for sgd")
    batch_size: int = Field(32, ge=1, description="training examples a step")
    model: str = Field("bert-base-uncased", min_length=1, description=MODEL)
    weights: Literal["pretrained", "none"] = Field(
        "pretrained", description="what the encoder begins with; none: random weights in the sizes of the model"
    )
    pooling: Literal["cls", "mean"] = Field("cls", description=POOLING)
    max_length: int = Field(128, ge=8, le=MAX_PLACES, description=MAX_LENGTH)
    pad_to_max_length: bool = Field(
        False, description="true: every batch is max_length long; false: as long as its longest text, in 16s"
    )
    num_train: int | None = Field(None, ge=1, description=NUM_TRAIN)
    num_val: int | None = Field(None, ge=1, description=NUM_VAL)

    @property
    def defaults(self) -> dict[str, float]:
        """The initial values of what may be tuned; the names are those of `space`."""
        return {"lr": _DEFAULT_LR[self.optimizer] if self.lr is None else self.lr}

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return the data as tokens of the model, with it; see `autotunenet_bench.data.glue` and `.pretrained`.

        Raises:
            DataError: If data or model are missing or damaged, or `max_length` is more than the model has places for.
        """
        pretrained = find_pretrained(self.model, source)
        self._check_length(pretrained)
        amounts = Amounts(
            num_train=self.num_train, num_val=self.num_val, num_test=self.num_test, fraction=self.data_fraction
        )
        data, info = load_glue(
            self.data_set,
            source,
            pretrained,
            self.batch_size,
            amounts,
            max_length=self.max_length,
            pads_to_max_length=self.pad_to_max_length,
        )
        return data, self._with_weights(info, pretrained)

    def build_model(self) -> nn.Module:
        """Return the network of the model that the environment has; inputs ``(n, length)``, logits ``(n, 2)``."""
        return self._network(find_pretrained(self.model, DataSource.from_environment()))

    def build_model_for(self, data: TaskData) -> nn.Module:
        """Return the network of the model that was loaded with the data."""
        return self.build_model() if data.pretrained is None else self._network(data.pretrained)

    def _network(self, pretrained: PretrainedModel) -> BertClassifier:
        separator = pretrained.token_id("[SEP]")
        model = BertClassifier(pretrained.config(), self.num_classes, separator, self.pooling)
        if self.weights == "pretrained":
            model.load_pretrained(pretrained.weights())
        return model

    def _check_length(self, pretrained: Pretrained) -> None:
        places = pretrained.config().get("max_position_embeddings", MAX_PLACES)
        if self.max_length > places:
            raise DataError(
                f"{self.name}: max_length {self.max_length} is more than the {places} tokens that {pretrained.name} "
                f"has places for; lower it"
            )

    def _with_weights(self, info: DataInfo, pretrained: Pretrained) -> DataInfo:
        """Return `info` with what the encoder begins with."""
        if self.weights == "none":
            return replace(info, pretrained=f"random weights in the sizes of {pretrained.words}")
        return replace(info, pretrained=pretrained.words, weights_sha256=pretrained.sha256)


class GlueSmallBase(GlueBase):
    """The same with MiniLM, on a part of the data, in the size of a CPU core. Is no member either."""

    model: str = Field("all-MiniLM-L6-v2", min_length=1, description=MODEL)
    # MiniLM's sentence model was trained on the mean, and learns sooner by it. On 1,000 phrases of SST-2 (lr 5e-5,
    # batches of 16, one seed) it classified 0.85 and 0.84 of 500 others rightly after one and two epochs this way, and
    # 0.76 and 0.86 by the pooler.
    pooling: Literal["cls", "mean"] = Field("mean", description=POOLING)
    max_length: int = Field(64, ge=8, le=MAX_PLACES, description=MAX_LENGTH)
    num_train: int | None = Field(1000, ge=1, description=NUM_TRAIN)
    num_val: int | None = Field(500, ge=1, description=NUM_VAL)
