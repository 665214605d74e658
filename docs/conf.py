"""How the site is built: ``sphinx-build -W docs build/docs``."""

import ecpolicy

project = "ecpolicy"
author = "The ecpolicy developers"
release = version = ecpolicy.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["tutorials/*.rst", "tutorials/*.py"]  # what sphinx-gallery reads
templates_path = ["_templates"]
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc has them
numpydoc_show_class_members = False  # the template lists them
numpydoc_class_members_toctree = False
toc_object_entries_show_parents = "hide"
numpydoc_validation_checks = {
    "PR02",
    "PR10",
}  # parameters: none that does not exist, colons where they belong
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "tasklist"]

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "ecpolicy"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
}
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "auto_tutorials",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "first_notebook_cell": '# %pip install "ecpolicy[tools]"  # in Colab, once the package is on the index',
    "ignore_repr_types": r".*Display|.*[Aa]xes|.*Figure",  # their pictures are there
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "copyfile_regex": r".*\.rst",
}
