"""Put a report together: one HTML page with its data, script and style inside."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

from skproto.utils._optional import import_optional

# Scripts of the page, in the order in which they are put together.
SCRIPTS = ("core.js", "evidence.js", "gallery.js", "cases.js", "trees.js", "main.js")


def read_template(name: str) -> str:
    """Return a file of the templates of reports."""
    folder = files("skproto") / "templates" / "report"
    return (folder / name).read_text(encoding="utf-8")


def script_text() -> str:
    """Return the script of the page, in one closed scope."""
    parts = [read_template(name) for name in SCRIPTS]
    return '(function () {\n"use strict";\n' + "\n".join(parts) + "})();\n"


def safe_json(content: Any) -> str:
    r"""Write content as JSON that can stand inside a script element.

    Examples
    --------
    >>> print(safe_json({"class": "</script>&"}))
    {"class":"\u003c/script\u003e\u0026"}
    """
    text = json.dumps(
        content, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def render(content: dict[str, Any], data: dict[str, Any]) -> str:
    """Fill the template; every value is escaped.

    Parameters
    ----------
    content : dict
        What the template shows without a script.

    data : dict
        What the script shows.
    """
    jinja2 = import_optional("jinja2", "A report", "html")
    markup = import_optional("markupsafe", "A report", "html").Markup
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    script = script_text()
    # Nothing but this very script runs, and nothing is fetched.
    digest = b64encode(sha256(script.encode()).digest()).decode()
    page: str = environment.get_template("page.html").render(
        **content,
        script=markup(script),
        style=markup(read_template("style.css")),
        digest=digest,
        data=markup(safe_json(data)),
    )
    return page
