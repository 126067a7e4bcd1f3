"""Models of the Hub's layout with random weights: small enough for a test, real in every other way."""

import json
import string

import torch
from safetensors.torch import save_file
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, "the", "of", "data", *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase))
BERT = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT |= {"intermediate_size": 32, "max_position_embeddings": 128}


def write_bert(folder, seed=0, prefix="bert.", old_names=True, **sizes):
    """Write a BERT with the names of the first checkpoints, and something that stood on top of it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = BertModel(BertConfig(**{**BERT, **sizes}))
    weights = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    if old_names:
        for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
            weights = {name.replace(new, old): tensor for name, tensor in weights.items()}
    weights["cls.predictions.bias"] = torch.zeros(len(WORDS))
    write(folder, {**BERT, **sizes, "model_type": "bert"}, weights)
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(WORDS)})
    tokenizer.enable_padding(length=99)  # some files say so, and it must not matter
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def resnet50():
    """Return the ResNet-50 of transformers with other classes than CIFAR-10 has."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return ResNetForImageClassification(ResNetConfig(num_labels=3))


def write(folder, config, weights):
    """Write a model without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder
