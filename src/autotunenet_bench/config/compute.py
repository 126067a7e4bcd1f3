"""On what a run is computed: the device, the precision, and whether its model is compiled."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from autotunenet_bench.device import Device, has_cuda


class Compute(BaseModel):
    """On what a run is computed; a key that stands at its default is not written, so that earlier runs keep their ids.

    >>> Compute(precision="bfloat16").model_dump()
    {'precision': 'bfloat16'}
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = Field("cpu", description="auto: cuda where there is a GPU, else cpu")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the passes; weights, gradients and the optimizer stay float32 (autocast)"
    )
    compile: bool = Field(
        False, description="whether the model goes through torch.compile; the first epoch waits for it"
    )

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if value != type(self).model_fields[key].default}

    def resolved(self) -> Compute:
        """Return the same with a device of this machine in place of "auto", as a stored spec has it.

        Raises:
            ValueError: If a GPU is asked for and torch finds none.
        """
        if self.device == "cuda" and not has_cuda():
            raise ValueError(
                "cuda is asked for, and this torch finds no CUDA GPU; set compute.device to auto or cpu, or install a "
                "torch that is built for CUDA"
            )
        if self.device != "auto":
            return self
        return self.model_copy(update={"device": "cuda" if has_cuda() else "cpu"})

    def live(self) -> Device:
        """Return the device that a run is computed on.

        Raises:
            ValueError: As `resolved`.
        """
        kind: Literal["cpu", "cuda"] = "cuda" if self.resolved().device == "cuda" else "cpu"
        return Device(kind, self.precision, self.compile)
