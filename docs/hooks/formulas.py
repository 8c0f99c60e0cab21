"""MkDocs hook: turn LaTeX into MathML when the site is built, so that it needs no script.

A block is fenced as `math`; inside a line a formula stands between $` and `$.
"""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$`(.+?)`\$")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with each formula as a MathML element."""

    def block(match: re.Match[str]) -> str:
        return f'<div class="formula">{convert(match[1].strip(), display="block")}</div>'

    def inline(match: re.Match[str]) -> str:
        # A line that began with <math> would be taken for a block.
        return f"<span>{convert(match[1])}</span>"

    return _INLINE.sub(inline, _BLOCK.sub(block, markdown))
