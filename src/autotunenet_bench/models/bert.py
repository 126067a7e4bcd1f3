"""BERT with a linear layer that classifies texts, after Devlin et al., "BERT", NAACL 2019, section 4.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

HEAD_STD = 0.02
"""Standard deviation of the initial weights of the last layer, as of all others before pretraining."""


class BertClassifier(nn.Module):
    """The encoder, a pooled state of each text, dropout, a linear layer.

    Texts come as rows of token ids, ``[CLS] first [SEP]`` or ``[CLS] first [SEP] second [SEP]``, with 0 behind their
    end. What is attended to and which sentence a token belongs to follow from the ids. How many zeros there are, and
    which other texts are in the batch, changes nothing about a text's logits beyond rounding.

    Args:
        config: Sizes and the like, as a model's ``config.json`` has them.
        num_classes: Logits that come out.
        separator: The id of ``[SEP]``.
        pooling: "cls": the first token's state through the pretrained pooler (a linear layer and tanh), as in the
            paper; "mean": the mean of the states of a text, as sentence encoders are trained.
        dropout: Share of the pooled state that is dropped in training.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        num_classes: int,
        separator: int,
        pooling: Literal["cls", "mean"] = "cls",
        dropout: float = 0.1,
    ) -> None:
        # Takes a second, and what trains no such model does without.
        from transformers import BertConfig, BertModel

        super().__init__()
        sizes = BertConfig(**{**config, "attn_implementation": "sdpa"})
        self.encoder = BertModel(sizes, add_pooling_layer=pooling == "cls")
        self.separator = separator
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(sizes.hidden_size, num_classes)
        nn.init.normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits ``(n, num_classes)`` of token ids ``(n, length)``, int32 or int64, 0 behind the end only."""
        is_token = ids != 0
        ends = (ids == self.separator).long()
        # A token is of the second sentence where one has ended before it.
        second = (ends.cumsum(dim=1) - ends).clamp(max=1) * is_token
        found = self.encoder(input_ids=ids, attention_mask=is_token.long(), token_type_ids=second)
        pooled = found.pooler_output
        if pooled is None:
            weight = is_token.unsqueeze(2).to(found.last_hidden_state.dtype)
            pooled = (found.last_hidden_state * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Copy pretrained weights into the encoder; the last layer stays as it was drawn.

        Names may begin with ``bert.``; those of older files (``gamma``, ``beta``) are known. What pretraining had on
        top of the encoder is left out.

        Raises:
            ValueError: If a weight of the encoder is missing or has another shape.
        """
        found = {_name_in_encoder(name): tensor for name, tensor in weights.items()}
        own = self.encoder.state_dict()
        missing = [name for name in own if name not in found]
        if missing:
            raise ValueError(f"the pretrained weights lack {len(missing)} of the model's {len(own)}: {missing[0]}, ...")
        wrong = [name for name in own if found[name].shape != own[name].shape]
        if wrong:
            raise ValueError(
                f"the pretrained weights {wrong[0]} have the shape {tuple(found[wrong[0]].shape)}, the model's "
                f"{tuple(own[wrong[0]].shape)}"
            )
        self.encoder.load_state_dict({name: found[name] for name in own})


def _name_in_encoder(name: str) -> str:
    name = name.removeprefix("bert.")
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: "LayerNorm." + {"gamma": "weight", "beta": "bias"}[m[1]], name)
