"""The documentation site: the documents as they lie in the repository, and the public names from their docstrings.

    scripts/docs

The repository's root is Sphinx's source folder, so that the documents' links to each other are right here and there.
"""

from __future__ import annotations

import topwork

project = "Topwork"
author = "The Topwork developers"
version = release = topwork.__version__
root_doc = "docs/index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = ["*.md", "docs/*.md"]
exclude_patterns = [".*", "build", "src", "tests"]
highlight_language = "none"
default_role = "code"
myst_heading_anchors = 4
napoleon_attr_annotations = False
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
html_theme = "furo"
html_title = f"Topwork {release}"
html_show_sphinx = False
html_copy_source = False
templates_path = ["templates"]
html_additional_pages = {"index": "start.html"}
