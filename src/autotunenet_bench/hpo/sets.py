"""Several offline searches together: which search does best over all of their data sets.

hpo_set.json     what the set is called, and its members
<member>/        the folder of an offline search
report.html, report.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autotunenet.files import is_plain_name, write_atomically
from autotunenet_bench.hpo.folder import HpoFileError, is_hpo_folder
from autotunenet_bench.hpo.reporting import read_study
from autotunenet_bench.report.hpo.summary import describe_set, set_to_html, set_to_markdown
from autotunenet_bench.report.sections import Table

SET_FILE = "hpo_set.json"


class SetAbout(BaseModel):
    """What ``hpo_set.json`` says.

    Attributes:
        title: The report's heading.
        description: A paragraph below it.
        members: Names of the folders of its searches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    description: str
    members: tuple[str, ...] = Field(min_length=1)


@dataclass(frozen=True)
class SetResult:
    """What the searches of a set came to.

    Attributes:
        folder: Where everything lies.
        html: The page.
        table: Searches by data sets.
        headline: The answer in sentences.
    """

    folder: Path
    html: Path
    table: Table
    headline: tuple[str, ...]


def is_set_folder(folder: Path) -> bool:
    """Return whether a set of offline searches was done in a folder."""
    return (folder / SET_FILE).exists()


def write_set(folder: Path, about: SetAbout) -> None:
    """Write ``hpo_set.json``."""
    write_atomically(folder / SET_FILE, about.model_dump_json(indent=2) + "\n")


def rebuild_set_report(folder: Path) -> SetResult:
    """Write the report of a set from what lies in the folders of its members.

    Raises:
        HpoFileError: If ``hpo_set.json`` or the ``hpo.json`` of a member is damaged.
        OSError: If the report cannot be written.
    """
    path = folder / SET_FILE
    try:
        about = SetAbout.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise HpoFileError(f"{path}: this file is damaged; run the set again, which writes it anew") from error
    if odd := [name for name in about.members if not is_plain_name(name)]:
        raise HpoFileError(f"{path}: {odd[0]!r} is no name of a folder in here; run the set again")
    names = list(about.members)
    studies = {name: read_study(folder / name) for name in names if is_hpo_folder(folder / name)}
    found = describe_set(about.title, about.description, studies)
    html = folder / "report.html"
    write_atomically(folder / "report.md", set_to_markdown(found))
    write_atomically(html, set_to_html(found))
    return SetResult(folder, html, found.tables[0], found.headline)
