"""HTML pages from the templates of this folder: one file each, without a network, a script or another file."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from autotunenet_bench.report.drawing import color_variables


def page(template: str, **values: Any) -> str:
    """Fill a template. What came from a user or a file is escaped; only what is marked safe in the template is not.

    Args:
        template: Name of a file of this folder.
        values: What it shows.
    """
    colors = {"light_colors": color_variables(dark=False), "dark_colors": color_variables(dark=True)}
    return _environment().get_template(template).render(**colors, **values)


@cache  # it keeps the templates, which take as long to compile as a page to fill
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("autotunenet_bench.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
