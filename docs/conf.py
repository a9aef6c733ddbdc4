"""Sphinx's settings. ``make docs`` builds with every warning an error and runs every ``>>>`` example of every page.

The build reads nothing from the network, so there are no links into other projects' inventories.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "fgrad"
author = "the fgrad authors"
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "api_module",
    "primitive_matrix",
]

source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "furo"
html_title = "fgrad"
html_show_sphinx = False
