"""A number on an accelerator, fetched without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FAR = ("cuda", "xpu")
"""Kinds of devices that compute while the host goes on, and that copy into its memory meanwhile."""


class PendingLoss:
    """A loss on its way to the host.

    The copy goes into pinned memory, on the stream that the loss was computed on: nothing waits until `value` is asked
    for, and then only for this copy.
    """

    def __init__(self, loss: Tensor) -> None:
        self._loss: Tensor | None = loss.detach()  # whose memory nobody else gets before it has been read
        self._host = self._loss.to("cpu", non_blocking=True)
        self._arrival = record_event(loss.device)

    def value(self) -> float:
        """Return the number; waits until it has arrived."""
        self._arrival.synchronize()
        self._loss = None
        return float(self._host)


def record_event(device: torch.device) -> Any:
    """Return an event that is over when what was given to the device's current stream so far is done."""
    return getattr(torch, device.type).current_stream(device).record_event()


def send_for(loss: Any) -> PendingLoss | None:
    """Fetch a loss that lies on an accelerator; None: it does not, or is not one number."""
    if not isinstance(loss, Tensor) or loss.is_cpu:  # at every step
        return None
    return PendingLoss(loss) if loss.device.type in _FAR and loss.numel() == 1 else None
