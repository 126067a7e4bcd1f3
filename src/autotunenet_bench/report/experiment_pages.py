"""How the report of an experiment looks: a part of the HTML page, and a Markdown document."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from autotunenet_bench.report.experiment import ExperimentReport

_SPECIAL = re.compile(r"([\\`*\[\]|~$])|(?<![^\W_])(_)|(_)(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LINE_START = re.compile(r"^(\d{1,9})([.)])(?=\s|$)|^([#+=-])(?=[#+=-]|\s|$)")


def to_html(report: ExperimentReport) -> Markup:
    """Return the part of the page, safe to stand in it; equal reports give equal texts."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return Markup(environment.from_string(_source("experiment.html.j2")).render(report=report))


def to_markdown(report: ExperimentReport) -> str:
    """Return a document in GitHub's Markdown, in which every text from outside is text and no markup."""
    return markdown_environment().from_string(_source("experiment.md.j2")).render(report=report)


def markdown_environment(loader: jinja2.BaseLoader | None = None) -> jinja2.Environment:
    """Return what fills templates of Markdown: a text from outside is text there, and a macro's markup is markup."""
    return jinja2.Environment(
        loader=loader,
        autoescape=True,  # so that macros return Markup, which `finalize` tells from a text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalize_markdown,
    )


def escape_markdown(text: str) -> str:
    r"""Write a text so that Markdown shows it as it is, on one line, in a table too.

    A `_` inside a word is none of its marks, and stays.

    >>> print(escape_markdown("a|b <b> `c` [d](e) *f* snake_case _g_"))
    a\|b &lt;b&gt; \`c\` \[d\](e) \*f\* snake_case \_g\_
    >>> print(escape_markdown("# no\nheading"), escape_markdown("1. no list"))
    \# no heading 1\. no list
    >>> print(escape_markdown("0.5"), escape_markdown("-0.5"), escape_markdown("---"))
    0.5 -0.5 \---
    """
    plain = " ".join(text.split())
    plain = _SPECIAL.sub(lambda match: f"\\{match[0]}", plain)
    plain = re.sub("[&<>]", lambda match: _ENTITIES[match[0]], plain)
    return _LINE_START.sub(lambda match: f"{match[1]}\\{match[2]}" if match[1] else f"\\{match[3]}", plain)


def finalize_markdown(value: Any) -> Any:
    """Escape a text that goes into a template of Markdown; leave what is markup already."""
    return Markup(escape_markdown(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(name: str) -> str:
    return resources.files("autotunenet_bench.report").joinpath(name).read_text(encoding="utf-8")
