"""Sphinx: `sphinx-build -W -b html docs docs/_build`."""

import srfx

project = "srfx"
author = "The srfx developers"
copyright = "The srfx developers"
release = version = srfx.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
default_role = "py:obj"
html_theme = "furo"
html_title = "srfx"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings give types, shapes and ranges
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_rtype = False
