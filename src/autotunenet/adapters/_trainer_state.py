"""A tuner's state beside the Trainer's own in a checkpoint: written, found again, and refused where it does not fit.

`transformers` keeps of a callback what fits into JSON. A tuner's state holds copies of the weights, so it is a file of
its own.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

FILE_NAME = "autotunenet_state.pt"
"""In every checkpoint folder."""

_OPTIMIZER = "optimizer.pt"
"""The Trainer's own file, which is there unless only the model is saved."""

_VERSION = 1
_NUM_DIGESTED = 64


def checkpoint_folder(output_dir: str | None, step: int) -> Path:
    """Return where a Trainer writes its checkpoint of a step."""
    return Path(output_dir or "") / f"checkpoint-{step}"


def save_tuner(folder: Path, step: int, model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Write a tuner's state into a checkpoint; a reader sees all of it or nothing.

    Args:
        folder: The checkpoint, which must exist.
        step: Optimizer steps that the Trainer has done.
        model: Whose weights are in the checkpoint.
        state_dict: The tuner's.

    Raises:
        OSError: If it cannot be written.
    """
    content = {"version": _VERSION, "step": step, "weights": _digest(model), "tuner": state_dict}
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{FILE_NAME}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())  # or a power cut after the replacing could leave an empty file under the name
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, folder / FILE_NAME)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_tuner(folders: Sequence[Path], step: int, model: nn.Module, device: torch.device) -> dict[str, Any] | None:
    """Return the tuner's state from the first of some folders that was saved with the weights that the model has now.

    A Trainer does not tell its callbacks which checkpoint it goes on from. The weights do: another run's folder, or
    another step's, holds others.

    Args:
        folders: Where the checkpoint may be.
        step: Optimizer steps that the Trainer has done.
        model: With the weights of the checkpoint.
        device: Where tensors go.

    Returns:
        The state; None if there is no file in any of the folders.

    Raises:
        ValueError: If a file is damaged or of another version, or if all of them are of other weights or another step.
        OSError: If a file cannot be read.
    """
    digest, others = _digest(model), []
    for path in (folder / FILE_NAME for folder in folders):
        if not path.is_file():
            continue
        try:
            content = torch.load(path, map_location=device, weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise ValueError(f"{path} is damaged ({error}); go on from another checkpoint") from error
        if content["version"] != _VERSION:
            raise ValueError(
                f"{path} is of version {content['version']} of this file, and this version reads {_VERSION}"
            )
        if (content["step"], content["weights"]) == (step, digest):
            state: dict[str, Any] = content["tuner"]
            return state
        others.append(path)
    if others:
        raise ValueError(
            f"the tuner's state in {' and '.join(map(str, others))} is not of the weights that the Trainer has loaded: "
            "it goes on from another folder. Say which one: AutoTuneNetCallback(resume_from_checkpoint=...); or start "
            "the tuner afresh: AutoTuneNetCallback(resume_from_checkpoint=False)"
        )
    return None


def why_none(folders: Sequence[Path], had_tuner: bool) -> str:
    """Say why there is no tuner's state, where a tuner may start afresh.

    Args:
        folders: Where it was looked for.
        had_tuner: Whether the training that the checkpoint is of had a tuner.

    Raises:
        ValueError: If it may not, because the state has been lost or lies elsewhere.
    """
    names = " or ".join(dict.fromkeys(map(str, folders)))
    if not had_tuner:
        return f"the checkpoint in {names} is of a training without AutoTuneNetCallback"
    checkpoint = next((folder for folder in folders if folder.is_dir()), None)
    if checkpoint and not (checkpoint / _OPTIMIZER).is_file():
        return f"the checkpoint in {checkpoint} holds the model only"
    raise ValueError(
        f"there is no {FILE_NAME} in {names}, and the training that the Trainer goes on with had a tuner. Where its "
        "checkpoint lies elsewhere, say so: AutoTuneNetCallback(resume_from_checkpoint=...). Where the training was "
        "killed before the file was written, go on from an earlier checkpoint, or start the tuner afresh: "
        "AutoTuneNetCallback(resume_from_checkpoint=False)"
    )


def _digest(model: nn.Module) -> str:
    """Return a digest of the first numbers of every parameter that is trained, bit for bit."""
    digest = hashlib.sha256()
    for param in model.parameters():
        if param.requires_grad:
            part = param.detach().flatten()[:_NUM_DIGESTED].cpu().contiguous()
            digest.update(part.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
