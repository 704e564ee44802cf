"""Notebook HTML of explanations, by Jinja2 templates that escape all text.

The HTML is self-contained: no script, no font and no picture is fetched. Colours are
inherited from the notebook, so that light and dark themes both work, and evidence is
told apart by hatching and sign as well as by colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from skproto.utils._optional import import_optional

if TYPE_CHECKING:
    from skproto.explanation._text import SampleView, Table


def _template_source(name: str) -> str:
    return (files("skproto") / "templates" / name).read_text(encoding="utf-8")


def _render(template: str, **content: Any) -> str:
    """Fill a template of the package; every value is escaped."""
    jinja2 = import_optional("jinja2", "The HTML of an explanation", "html")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_source),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**content)


def samples_html(estimator: str, views: Sequence[SampleView], n_more: int) -> str:
    """Render the explanation of some samples.

    Parameters
    ----------
    estimator : str
        Name of the estimator.

    views : sequence of SampleView
        The samples shown.

    n_more : int
        How many samples are not shown.

    Returns
    -------
    html : str
        One ``div``.
    """
    strongest = [
        max((abs(row.value) for row in view.rows), default=0.0) or 1.0 for view in views
    ]
    pairs = list(zip(views, strongest, strict=True))
    return _render("samples.html", estimator=estimator, pairs=pairs, n_more=n_more)


def tables_html(heading: str, tables: Sequence[Table], text: str = "") -> str:
    """Render tables, and text in fixed pitch below them, as one ``div``."""
    return _render("tables.html", heading=heading, tables=tables, text=text)


def page_html(title: str, parts: Sequence[Any]) -> str:
    """Render a complete page from objects that have `_repr_html_`.

    Parameters
    ----------
    title : str
        Title of the page.

    parts : sequence of object
        Explanations, in the order of the page.

    Returns
    -------
    html : str
        A complete document that needs no other file.

    Raises
    ------
    ImportError
        If Jinja2 is not installed.
    """
    # The parts are the escaped HTML of this module: Markup says so to Jinja2.
    markup = import_optional("markupsafe", "The HTML of an explanation", "html").Markup
    bodies = [markup(part._repr_html_()) for part in parts]
    return _render("page.html", title=title, bodies=bodies)


def notebook_html(render: Callable[[], str], shown: object) -> str:
    """Render for a notebook, which must never raise.

    Without Jinja2 the text of the object is shown with a hint how to install it; any
    other failure is shown in place of the picture, so that the cell still displays.
    """
    try:
        return render()
    except ImportError as error:
        hint = str(error)
    except Exception as error:  # a broken display must not hide the user's result
        hint = f"No HTML: {type(error).__name__}: {error}"
    try:
        text = str(shown)
    except Exception:
        text = type(shown).__name__
    return f"<pre>{escape(text)}\n\n{escape(hint)}</pre>"
