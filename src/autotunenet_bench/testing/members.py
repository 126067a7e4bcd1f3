"""What every member keeps, whatever its family: it is a config."""

from __future__ import annotations

import pickle

from pydantic import BaseModel, ValidationError

from autotunenet_bench.member import hidden_names
from autotunenet_bench.testing.rules import Rule, Subject, require


def can_be_made(subject: Subject) -> None:
    """It can be made, and says its name itself."""
    made = subject.make()
    name = getattr(made, "name", None)
    require(isinstance(name, str) and name, f"its name is {name!r}")


def is_described(subject: Subject) -> None:
    """Its docstring begins with a line of 21 to 99 characters, and every key has a description."""
    line = (subject.member.__doc__ or "").partition("\n")[0]
    require(20 < len(line) < 100, f"the first line has {len(line)} characters: {line!r}")
    bare = [key for key, field in subject.member.model_fields.items() if key != "name" and not field.description]
    require(not bare, f"no description of {', '.join(bare)}")


def is_frozen(subject: Subject) -> None:
    """A config that was made does not change."""
    config = subject.make()
    try:
        config.label = "other"
    except ValidationError as error:
        require("frozen" in str(error), f"label was refused for another reason: {error}")
    else:
        require(False, "label could be set")


def refuses_unknown_keys(subject: Subject) -> None:
    """A key that it does not have is refused."""
    try:
        subject.make(no_such_key=0.1)
    except ValidationError as error:
        require("Extra inputs" in str(error), f"no_such_key was refused for another reason: {error}")
    else:
        require(False, "no_such_key was taken")


def hides_nothing_of_its_base(subject: Subject) -> None:
    """No key has the name of a method or property of its base."""
    hidden = hidden_names(subject.member)
    require(not hidden, f"{', '.join(hidden)} is something else there")


def survives_json(subject: Subject) -> None:
    """Stored as JSON and read back strictly it is the same, and is stored the same again."""
    for config in (subject.make(), subject.make(label="mine")):
        stored = config.model_dump_json()
        back: BaseModel = subject.member.model_validate_json(stored, strict=True)
        require(back == config, f"{stored} came back as {back!r}")
        require(back.model_dump_json() == stored, f"{stored} is stored as {back.model_dump_json()} the second time")


def survives_pickle(subject: Subject) -> None:
    """It goes to another process: pickled and back it is the same."""
    config = subject.make(label="mine")
    back = pickle.loads(pickle.dumps(config))
    require(back == config, f"{config!r} came back as {back!r}")


def has_a_display_name(subject: Subject) -> None:
    """It has a name for tables, which is the label where there is one."""
    display, labelled = subject.make().display, subject.make(label="mine").display
    require(isinstance(display, str) and display, f"display is {display!r}")
    require(labelled == "mine", f"with label 'mine', display is {labelled!r}")


MEMBER_RULES = (
    Rule(can_be_made, "give `name` and every other field a default, or say the keys that it needs"),
    Rule(is_described, "write Field(..., description=...) and a one-line docstring: lists and schemas show them"),
    Rule(is_frozen, "leave model_config as the base has it"),
    Rule(refuses_unknown_keys, "leave model_config as the base has it: a misspelt key must not be silently nothing"),
    Rule(hides_nothing_of_its_base, "give the key another name: it would not be read, or be read for the other"),
    Rule(survives_json, "use fields that JSON has: numbers, texts, true and false, null, lists, mappings"),
    Rule(survives_pickle, "define the class at the top of an importable module"),
    Rule(has_a_display_name, "return `self.label or ...` from display"),
)
"""Come first in the contract of every family."""
