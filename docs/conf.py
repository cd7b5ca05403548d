"""Configuration of the documentation site. `make docs` builds it, `make docs-test` checks it."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

import aevb  # noqa: E402 - needs the path set above

project = "aevb"
copyright = "the aevb authors"  # noqa: A001 - Sphinx's name for it
author = "the aevb authors"
version = release = aevb.__version__

extensions = [
    "docstrings",
    "flag_tables",
    "library_references",
    "root_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "myst_nb",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_vendor", "README.md", "inventories/README.md", "results/*", "**/.ipynb_checkpoints"]
nitpicky = True

# Pages. `colon_fence` and `dollarmath` are the Markdown extensions that the pages use most.
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["mystnb.unknown_mime_type"]

# Tutorials run whenever the site is built, each in its own process and folder.
nb_execution_mode = os.environ.get("AEVB_DOCS_EXECUTION", "cache")
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm warns without Jupyter widgets
os.environ.setdefault("TFDS_DATA_DIR", str(HERE / "_build" / "data"))
# Figures have twice their usual pixels, so that they stay sharp and their text legible.
_PROFILE = HERE / "_build" / "ipython" / "profile_default"
_PROFILE.mkdir(parents=True, exist_ok=True)
(_PROFILE / "ipython_kernel_config.py").write_text('c.InlineBackend.figure_formats = {"retina"}\n')
os.environ["IPYTHONDIR"] = str(_PROFILE.parent)
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])

# The API.
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 70
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Inventories are committed, so that references to other libraries resolve without a network; see inventories/README.md.
intersphinx_mapping = {
    name: (address, f"inventories/{name}.inv")
    for name, address in {
        "python": "https://docs.python.org/3",
        "numpy": "https://numpy.org/doc/stable",
        "jax": "https://docs.jax.dev/en/latest",
        "flax": "https://flax-linen.readthedocs.io/en/latest",
        "numpyro": "https://num.pyro.ai/en/stable",
        "optax": "https://optax.readthedocs.io/en/latest",
        "matplotlib": "https://matplotlib.org/stable",
    }.items()
}
intersphinx_timeout = 5

# A copy of MathJax in the site renders mathematics; see vendor.py.
mathjax_path = "tex-svg.js"
mathjax3_config = {"svg": {"fontCache": "global"}, "options": {"enableMenu": False}}

html_theme = "furo"
html_title = "aevb"
html_static_path = ["_static", "_vendor"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "source_repository": "",
    "navigation_with_keys": True,
}
linkcheck_timeout = 20
