"""Configuration of the documentation build, which needs no network."""

import inspect
import sys
from pathlib import Path

import skproto

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_order

project = "skproto"
author = "The skproto developers"
copyright = "The skproto developers"
release = skproto.__version__
version = release

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "auto_examples/**/*.ipynb"]
source_suffix = {".rst": "restructuredtext"}
html_theme = "pydata_sphinx_theme"
html_title = "skproto"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}
html_sidebars = {
    page: [] for page in ("index", "install", "tutorial", "auto_examples/*")
}
html_show_sourcelink = False

# Pictures of the tutorial, drawn by the code that is shown.
plot_formats = [("png", 110)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = True

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
# Summary on the opening line, no extended summary, no See Also, no example for a
# method, unnamed returns, no docstring on private parts: the habits of the field.
numpydoc_validation_checks = {
    "all",
    "ES01",
    "EX01",
    "GL01",
    "GL08",
    "RT02",
    "SA01",
    "SA04",
}
# The template documents its parameters once for all, in prose; estimators one by one.
# Torch parts and callbacks are documented by their class: their methods are all alike.
# So are the hooks by which a family of estimators is edited.
numpydoc_validation_exclude = {
    r"^skproto\.base\.PrototypeClassifier$",
    r"^skproto\.(nn|training)\.\w+\.\w+",
    r"^skproto\.metrics\.PrototypeMetrics\.(initialize|on_\w+)",
    r"^skproto\.operations\.EditingFamily\.\w+",
}

# Formulas are TeX in rst; the included Markdown has links to its own headings.
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skproto",),
    "within_subsection_order": "gallery_order.order",
    "ignore_repr_types": r"matplotlib\.",  # the picture says it
    "min_reported_time": 1_000_000,
    "show_memory": False,
    "write_computation_times": False,
}


def keep_own_members(app, what, name, obj, skip, options):
    """Leave out what other packages document: their pages are where the links lead."""
    function = obj.fget if isinstance(obj, property) else obj
    module = getattr(inspect.unwrap(function), "__module__", None) or "skproto"
    foreign = callable(function) and not module.startswith("skproto")
    return True if foreign or name.endswith("_request") else None


def setup(app):
    app.connect("autodoc-skip-member", keep_own_members)
