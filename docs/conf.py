"""Sphinx's settings: `python -m sphinx -W -b html docs docs/_build/html`.

Everything is made without a network, and no page asks for a script from a host: formulas become
MathML, and the search's index lies beside the pages. The notebooks are executed where
`-D nb_execution_mode=cache` is given.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generated_pages import write_pages
from mathml import setup as setup  # makes this file an extension: Sphinx calls it

write_pages(Path(__file__).parent)

project = "seedmap"
author = "the authors of seedmap"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "seedmap"
smartquotes = False  # two hyphens begin a flag
html_show_copyright = False
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["math.css"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would come from a host

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and types stand in the docstrings
napoleon_use_rtype = False
napoleon_attr_annotations = False
