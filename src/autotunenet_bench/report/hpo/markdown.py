"""Templates of Markdown, filled so that every text from outside is text and no markup."""

from __future__ import annotations

from typing import Any

import jinja2

from autotunenet_bench.report.experiment_pages import markdown_environment


def fill_markdown(template: str, **values: Any) -> str:
    """Return a template of this folder, filled."""
    environment = markdown_environment(jinja2.PackageLoader("autotunenet_bench.report.hpo", ""))
    return environment.get_template(template).render(**values)
