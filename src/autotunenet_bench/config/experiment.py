"""What a suite asks, and what is put over its config for another size."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

ConclusionName = Literal["do_no_harm", "best_of", "survives", "equal_budget", "each_task"]
"""Rules that draw a conclusion from measured numbers; the code is `autotunenet_bench.report.conclusions`."""


def _unique_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ValueError(f"a seed may stand once, {twice[0]} stands {seeds.count(twice[0])} times; remove the others")
    return seeds


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_unique_seeds)]
NumEpochs = Annotated[int, Field(ge=1, le=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=60)]


def _unique_names(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"a controller may stand once, {twice!r} stands {names.count(twice)} times; remove the others")
    return names


class Target(BaseModel):
    """The validation loss to which the time is told: of each task the one given, else that of the baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline: Name | None = Field(
        None, description="a controller, by its name in tables: the lowest validation loss that all its seeds came to"
    )
    val_loss: dict[str, Annotated[float, Field(gt=0)]] = Field({}, description="validation loss by task, as in tables")

    @model_validator(mode="after")
    def _says_one(self) -> Target:
        if self.baseline is None and not self.val_loss:
            raise ValueError("a target is set by a controller, baseline: NAME, or by losses, val_loss: {TASK: LOSS}")
        return self


class Experiment(BaseModel):
    """The question of a suite, and the rule by which its runs answer it. Texts are shown as they are, never as markup.

    >>> Experiment(question="Does it harm?", subject="autotunenet", against=("fixed",), conclusion="do_no_harm").idea
    ''
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(min_length=1, max_length=500, description="what the runs are to answer, in one sentence")
    idea: str = Field("", max_length=2000, description="why one asks")
    methodology: str = Field("", max_length=2000, description="what is done to find out, and why so")
    subject: Name = Field(description="the controller that the question is about, by its name in tables")
    also: Annotated[tuple[Name, ...], AfterValidator(_unique_names)] = Field(
        (), description="further controllers of which the same is asked, by their names in tables"
    )
    against: Annotated[tuple[Name, ...], AfterValidator(_unique_names)] = Field(
        min_length=1, description="the controllers that it is compared with, by their names in tables"
    )
    conclusion: ConclusionName = Field(description="the rule that answers the question from the measured numbers")
    target: Target | None = Field(None, description="the loss to which the time is told; null: none is told")

    @property
    def subjects(self) -> tuple[str, ...]:
        """All of which the question is asked."""
        return (self.subject, *self.also)


class Full(BaseModel):
    """What ``--full`` puts over a config, beside the whole of the data; a key that is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_epochs: NumEpochs | None = Field(None, description="passes over the training data")
    seeds: Seeds | None = Field(None, description="seeds at this size")


class Scale(Full):
    """What ``--scale`` puts over a config, for a smaller or larger machine; a key that is left out stays as it is."""

    data_fraction: float | None = Field(
        None, gt=0, le=1, description="share of the data, put on every task over what it says itself"
    )


class Block(BaseModel):
    """A section of a config that was put over the rest of it. Values are as YAML has them.

    Attributes:
        name: The scale's, or ``"full"``.
        values: What it put, by key.
        specified: What the config has in place of each of them; None for a key that it has not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    values: dict[str, Any]
    specified: dict[str, Any]


class Departure(BaseModel):
    """How what was run departs from the config as it is written, for the report to tell.

    Attributes:
        scale: What ``--scale`` put over the config.
        full: What ``--full`` put over it, beside the whole of the data.
        scales: Names of all scales that the config has.
        overrides: The texts of ``--set``, in order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: Block | None = None
    full: Block | None = None
    scales: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
