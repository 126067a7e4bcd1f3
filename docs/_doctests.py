"""For the reference page: doctests in docstrings are shown as code. Used by mkdocs.yml, not by the packages."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A doctest reaches from its first prompt to the next blank line, as doctest itself has it.
_DOCTEST = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Puts fences around the doctests of every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
