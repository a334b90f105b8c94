"""A page of HTML that needs nothing else, from a template beside what it shows."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# Control characters, which byte models write and HTML forbids, as Python would show them.
_CONTROL = {
    code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if code not in (9, 10)
}


def render(template: str, **values: Any) -> bytes:
    """Fill a template; what it is given is text, whatever it holds, unless it is `Markup`.

    Args:
        template: path below the package, such as ``compare/report/page.html``. It extends
            ``plot/page.html``, which wants a ``title``.
        values: the template's.
    """
    return _TEMPLATES.get_template(template).render(values).encode("utf-8", "replace")


def visible(value: object) -> str:
    """Anything as text without control characters."""
    return value if isinstance(value, Markup) else str(value).translate(_CONTROL)


def pieces(name: str) -> list[str]:
    """The parts of a name between which a line may end."""
    return re.split(r"(?<=[+:,])", name)


def _digest(script: str) -> str:
    """What a Content-Security-Policy calls a script, so that no other runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


_SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1]),
    autoescape=True,
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals.update(script=Markup(_SCRIPT), script_digest=_digest(_SCRIPT))
_TEMPLATES.filters["pieces"] = pieces
