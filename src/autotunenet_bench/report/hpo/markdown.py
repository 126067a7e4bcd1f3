"""Templates of Markdown, filled so that every text from outside is text and no markup."""

from __future__ import annotations

from typing import Any

import jinja2

from autotunenet_bench.report.experiment_pages import finalize_markdown


def fill_markdown(template: str, **values: Any) -> str:
    """Return a template of this folder, filled."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autotunenet_bench.report.hpo", ""),
        autoescape=True,  # so that macros return Markup, which `finalize` tells from a text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalize_markdown,
    )
    return environment.get_template(template).render(**values)
