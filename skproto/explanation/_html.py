"""Notebook HTML of explanations, by Jinja2 templates that escape all text.

The HTML is self-contained: no script, no font and no picture is fetched. Colours are
inherited from the notebook, so that light and dark themes both work, and evidence is
told apart by hatching and sign as well as by colour.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

from skproto.explanation._pictures import BOX, PART_COLOURS, data_uri
from skproto.utils._optional import import_optional

if TYPE_CHECKING:
    from skproto.explanation._gallery import Branch, Group
    from skproto.explanation._text import SampleView, Table


def part_colour(part: int) -> str:
    """Return the colour of a part in pictures; 0 is the only part."""
    return PART_COLOURS[(part - 1) % len(PART_COLOURS)] if part else BOX


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
    environment.globals.update(data_uri=data_uri, part_colour=part_colour)
    return environment.get_template(template).render(**content)


def samples_html(
    heading: tuple[str, str],
    views: Sequence[SampleView],
    n_more: int,
    full_bar: float | None = None,
) -> str:
    """Render the explanation of some samples.

    Parameters
    ----------
    heading : tuple of two str
        Name of the estimator, and what the numbers of the rows are called.

    views : sequence of SampleView
        The samples shown.

    n_more : int
        How many samples are not shown.

    full_bar : float, default=None
        Number of a row whose bar is full; None: the largest of the sample.

    Returns
    -------
    html : str
        One ``div``.
    """
    strongest = [
        full_bar or max((abs(row.value) for row in view.rows), default=0.0) or 1.0
        for view in views
    ]
    content = {
        "estimator": heading[0],
        "amount": heading[1],
        "pairs": list(zip(views, strongest, strict=True)),
        "n_more": n_more,
    }
    return _render("samples.html", **content)


def tables_html(
    heading: str,
    tables: Sequence[Table],
    text: str = "",
    gallery: tuple[Sequence[Group], Sequence[str]] = ((), ()),
    outline: Sequence[Branch] = (),
) -> str:
    """Render a gallery, tables, and text in fixed pitch below them, as one ``div``.

    A gallery has groups of pictures, and notes on how to read them; an outline has
    the nodes of trees with their pictures, above these notes.
    """
    content: dict[str, Any] = {"tables": tables, "text": text, "outline": outline}
    content.update(groups=gallery[0], notes=gallery[1])
    return _render("tables.html", heading=heading, **content)


def html_page(title: str, parts: Sequence[Any]) -> str:
    """Return a page that shows explanations, pictures, tables and text.

    Parameters
    ----------
    title : str
        Title of the page.

    parts : sequence of object
        What the page shows, in this order: explanations and all else that has HTML of
        its own (pandas frames), matplotlib figures or axes, and text. A tuple is a
        section: its heading, then such objects.

    Returns
    -------
    html : str
        A document that needs no other file and no network; text is escaped.

    Raises
    ------
    ImportError
        If Jinja2 is not installed.

    TypeError
        If a part is none of these.

    Examples
    --------
    >>> from skproto.explanation import html_page
    >>> page = html_page("Patients", ["Two models.", ("First", "Bars < lines")])
    >>> "<h2>First</h2>" in page, "<p>Bars &lt; lines</p>" in page
    (True, True)
    """
    # What _part returns is escaped: Markup says so to Jinja2.
    markup = import_optional("markupsafe", "The HTML of an explanation", "html").Markup
    bodies = []
    for part in parts:
        if isinstance(part, tuple):
            bodies.append(markup(f"<h2>{escape(str(part[0]))}</h2>"))
        content = part[1:] if isinstance(part, tuple) else [part]
        bodies.extend(markup(_part(shown)) for shown in content)
    return _render("page.html", title=title, bodies=bodies)


def _part(shown: Any) -> str:
    """Return the HTML of one part of a page."""
    if isinstance(shown, str):
        return f"<p>{escape(shown)}</p>"
    figure: Any = shown if hasattr(shown, "savefig") else getattr(shown, "figure", 0)
    if hasattr(figure, "savefig"):
        file = BytesIO()
        figure.savefig(file, format="png", dpi=150)
        data = b64encode(file.getvalue()).decode()
        return f'<img alt="" src="data:image/png;base64,{data}">'
    if hasattr(shown, "_repr_html_"):
        return str(shown._repr_html_())
    raise TypeError(
        "parts must hold explanations, frames, matplotlib figures or axes, and str. "
        f"Got {type(shown).__name__}."
    )


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
