"""Configuration of the documentation build, which needs no network."""

import inspect

import skproto

project = "skproto"
author = "The skproto developers"
copyright = "The skproto developers"
release = skproto.__version__
version = release

extensions = [
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
html_theme = "pydata_sphinx_theme"
html_title = "skproto"
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {page: [] for page in ("index", "install", "auto_examples/*")}
html_show_sourcelink = False

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
# Torch parts are documented by their class: the methods of modules are all alike.
numpydoc_validation_exclude = {
    r"^skproto\.base\.PrototypeClassifier$",
    r"^skproto\.nn\.\w+\.\w+",
}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skproto",),
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
