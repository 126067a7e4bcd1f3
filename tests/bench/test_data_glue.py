"""GLUE: pairs of texts, where they may lie, what they may call themselves, and the tokens of a model."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertTokenizerFast

import small_data as files
from autotunenet_bench.data import DataError, DataSource, glue
from autotunenet_bench.data.glue import GLUE, Amounts, decode_glue, encode, load_glue
from autotunenet_bench.data.pretrained import find_pretrained
from autotunenet_bench.data.text_batches import TextBatches
from autotunenet_bench.data.texts import LabelledTexts, PackedTexts, pack_texts

ALL = Amounts()


@pytest.fixture
def model(tiny_bert):
    return find_pretrained(str(tiny_bert), DataSource())


def texts_of(part):
    return list(part.texts if part.seconds is None else zip(part.texts, part.seconds, strict=True))


def load(name, root, model, amounts=ALL, max_length=40, **options):
    return load_glue(name, DataSource(root), model, 32, amounts, max_length=max_length, **options)


# -- what is found and read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GLUE)
def test_the_validation_part_is_the_test_and_hidden_labels_are_not_looked_at(name, small_data, tmp_path):
    shard = small_data / "glue" / name
    columns = pq.read_table(shard / "validation-00000-of-00001.parquet").to_pydict()
    (tmp_path / name).mkdir()
    for path in shard.glob("*.parquet"):
        (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / name / "test-00000-of-00001.parquet").write_bytes(b"labels of -1")  # GLUE's own, never opened
    read = decode_glue(name, DataSource(tmp_path))
    assert (read.name, len(read.train), len(read.test)) == (f"{name}-like", files.NUM_TRAIN, files.NUM_TEST)
    assert texts_of(read.test) == (
        columns["sentence"] if name == "sst2" else list(zip(columns["sentence1"], columns["sentence2"], strict=True))
    )
    assert read.test.labels.tolist() == columns["label"]


def test_what_is_not_there_is_said_with_the_ways_to_have_it(tmp_path):
    with pytest.raises(DataError, match=r"SST-2 comes with no package: .*glue/sst2/.*AUTOTUNENET_DATA_DIR.*nyu-mll"):
        decode_glue("sst2", DataSource())
    with pytest.raises(DataError, match=r"holds no MRPC: looked for train-\*.parquet in mrpc/ and in glue/mrpc/"):
        decode_glue("mrpc", DataSource(tmp_path))


def test_one_data_set_is_not_taken_for_the_other(small_data, tmp_path):
    (tmp_path / "mrpc").mkdir()
    (tmp_path / "mrpc" / "train-0.parquet").write_bytes(
        (small_data / "glue" / "sst2" / "train-00000-of-00001.parquet").read_bytes()
    )
    with pytest.raises(DataError, match="needs the columns sentence1, sentence2 and label, it has sentence, label"):
        decode_glue("mrpc", DataSource(tmp_path))


def test_pairs_have_digests_of_both_texts():
    def pairs(*columns):
        return LabelledTexts.of(
            {"labels": torch.tensor([0, 1], dtype=torch.uint8).numpy()}
            | {
                key: array
                for keys, texts in zip((("blob", "offsets"), ("second_blob", "second_offsets")), columns, strict=False)
                for key, array in zip(keys, pack_texts(texts), strict=True)
            }
        )

    plain, other, moved = pairs(["ab", "c"], ["d", "e"]), pairs(["ab", "c"], ["d", "f"]), pairs(["a", "c"], ["bd", "e"])
    alone = pairs(["ab", "c"])
    assert len({one.sha256() for one in (plain, other, moved, alone)}) == 4
    assert len({one.content_sha256() for one in (plain, other, moved, alone)}) == 4
    assert alone.sha256() == LabelledTexts(PackedTexts(*pack_texts(["ab", "c"])), alone.labels).sha256()


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [9, 40])
@pytest.mark.parametrize("name", GLUE)
def test_tokens_are_those_that_transformers_makes(name, max_length, small_data, tiny_bert, model):
    reference = BertTokenizerFast(tokenizer_file=str(tiny_bert / "tokenizer.json"))
    part = decode_glue(name, DataSource(small_data)).test
    found = encode(model.tokenizer(), part, max_length)
    texts = texts_of(part) if name == "sst2" else [list(pair) for pair in texts_of(part)]
    expected = reference(texts, truncation=True, max_length=max_length, padding="max_length")
    assert found.tolist() == expected["input_ids"]


def test_a_tenth_is_for_validation_and_limits_and_fractions_are_of_every_class_alike(small_data, model):
    data, info = load("sst2", small_data, model)
    assert (info.num_train, info.num_val, info.num_test, info.name) == (270, 30, 40, "sst2-like")
    some, few = load("sst2", small_data, model, Amounts(num_train=100, num_val=10, fraction=0.5))
    assert (few.num_train, few.num_val, few.num_test) == (50, 5, 20)
    assert few.sha256 == info.sha256
    share = data.train.targets.bincount() / 270
    assert torch.allclose(some.train.targets.bincount() / 50, share, atol=0.02)
    rows = {tuple(row) for row in data.train.inputs.tolist()}
    assert all(tuple(row) in rows for row in some.train.inputs.tolist())
    more = load("sst2", small_data, model, Amounts(num_train=10_000))[1]
    assert more.num_train == 270


def test_padding_to_the_longest_or_to_the_maximum(small_data, model):
    bucketed, padded = (load("mrpc", small_data, model, pads_to_max_length=pads)[0] for pads in (False, True))
    assert isinstance(bucketed.train, TextBatches)
    assert {inputs.shape[1] for inputs, _ in padded.train.epoch(1)} == {40}
    lengths = [inputs.shape[1] for inputs, _ in load("sst2", small_data, model, max_length=330)[0].train.epoch(1)]
    assert max(lengths) < 320
    assert all(length % 16 == 0 for length in lengths)
    assert torch.equal(bucketed.train.inputs, padded.train.inputs)


def test_texts_are_tokenised_once_and_anew_for_another_length(small_data, model, monkeypatch):
    load("sst2", small_data, model)
    monkeypatch.setattr(glue, "encode", None)
    load("sst2", small_data, model)
    with pytest.raises(TypeError, match="NoneType"):
        load("sst2", small_data, model, max_length=39)


# -- the real data, where they are at hand -----------------------------------------------------------------------------

REAL = os.environ.get("AUTOTUNENET_DATA_DIR", "")


@pytest.mark.skipif(not REAL, reason="AUTOTUNENET_DATA_DIR names no folder with the data sets")
@pytest.mark.parametrize(("name", "sizes"), [("sst2", (67_349, 872)), ("mrpc", (3_668, 408))])
def test_the_true_sentences_may_bear_the_name(name, sizes):
    read = decode_glue(name, DataSource(Path(REAL)))
    assert (read.name, len(read.train), len(read.test)) == (name, *sizes)
