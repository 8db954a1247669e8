"""How Sphinx builds the documentation: offline, and so that the pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils.nodes import SkipNode, Text, field_name
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import desc, desc_annotation, literal_strong

import surefoot

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

HERE = Path(__file__).parent

# Where nothing is said, Keras wants TensorFlow, and writes a file of settings.
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_HOME", str(Path(tempfile.gettempdir()) / "surefoot-keras"))

project = "surefoot"
project_copyright = author = "The surefoot developers"
version = release = surefoot.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # Docstrings put code in single backticks.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
toc_object_entries = False  # Hundreds of them would be looked through for every page, a third of the time of a build.
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_use_rtype = False
nitpick_ignore_regex = [
    # Other projects have pages of their own, which a build without a network cannot look up.
    (
        r"py:.*",
        r"(AutoresetMode|Box|NDArray|Path|VecEnv|VectorEnv|BrokenProcessPool|DistributedDataParallel|Optimizer|ProcessGroup|Tensor|(collections|concurrent|jax|nn|np|numpy|optax|optim|os|pathlib|pl|torch|types)\..*)",
    ),
    # Type variables are described by the text around them.
    (r"py:class", r"(surefoot\.[\w.]+\.)?([RSTU]|A_contra)"),
    # So are names that stand for longer types, and another project's table.
    (r"py:class", r"((pictures|vega)\.)?(Array|Because|Claim|Losses|Line|Noted|Rates|Spec|Table|Verdicts?)"),
    # A callable without arguments, as napoleon takes it apart.
    (r"py:class", r"Callable\[\[\]"),
]

html_theme = "furo"
html_title = f"surefoot {version}"
html_static_path = ["static"]
html_css_files = ["surefoot.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"  # Defined below: MathJax and KaTeX would have to be loaded from somewhere.
html_theme_options = {"top_of_page_buttons": []}


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("builder-inited", _draw)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _as_in_markdown, priority=400)  # Napoleon's is 500.
    app.connect("autodoc-process-docstring", _join_names, priority=600)
    app.connect("doctree-read", _name_fields)
    app.connect("doctree-read", _hide_values)


def _draw(app: Sphinx) -> None:
    sys.path.insert(0, str(HERE))
    import pictures

    pictures.draw(Path(app.srcdir) / "images" / "policies")


def _inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(_mathml(node))
    raise SkipNode


def _block_math(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>\n')
    raise SkipNode


def _mathml(node: nodes.math | nodes.math_block, **settings: bool) -> str:
    braced = re.sub(r"frac(\d)(\d)", r"frac{\1}{\2}", node.astext())  # TeX needs no braces there, docutils does.
    mathml: str = tex2mathml(braced, **settings)
    return mathml


def _skip(_app: Sphinx, _what: str, _name: str, member: Any, _skip: bool, _options: Any) -> bool | None:
    """Python describes the fields of a named tuple as "Alias for field number 0"; their class's docstring does it better."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def _as_in_markdown(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Let docstrings write headings, tables, $inline$ and $$displayed$$ mathematics as pages do, and link arXiv:0000.00000."""
    text = re.sub(r"^## (.+)$", r".. rubric:: \1", "\n".join(lines), flags=re.MULTILINE)
    text = re.sub(r"(^\|.+\|$\n?)+", _table, text, flags=re.MULTILINE)
    text = re.sub(
        r"^( *)\$\$(.+?)\$\$", lambda found: f"{found[1]}.. math:: {_line(found[2])}\n", text, flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"\$([^$`]+)\$", lambda found: f":math:`{_line(found[1])}`", text)
    text = re.sub(r"arXiv:(\d{4}\.\d{5})", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)
    lines[:] = text.split("\n")


def _table(found: re.Match[str]) -> str:
    """A table as reStructuredText has it: a list of rows, each a list of cells."""
    head, _, *rows = ([cell.strip() for cell in row.strip("|").split("|")] for row in found[0].splitlines())
    lines = [f"   {'  ' if place else '* '}- {cell}" for row in (head, *rows) for place, cell in enumerate(row)]
    return "\n".join([".. list-table::", "   :header-rows: 1", "", *lines, ""])


def _line(formula: str) -> str:
    return " ".join(formula.split())


def _join_names(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Sphinx would take the first name in `min_scale, max_scale: Limits` for the type of the second."""
    lines[:] = [re.sub(r"^:ivar [\w, ]+:", lambda found: found[0].replace(", ", ","), line) for line in lines]


def _name_fields(_app: Sphinx, doctree: nodes.document) -> None:
    """Set the space again that `_join_names` took, and call attributes attributes, as docstrings do."""
    for name in doctree.findall(literal_strong):
        name[:] = [Text(name.astext().replace(",", ", "))]
    for name in doctree.findall(field_name):
        name[:] = [Text(name.astext().replace("Variables", "Attributes"))]


def _hide_values(_app: Sphinx, doctree: nodes.document) -> None:
    """A table's rows and a function's address in memory say nothing that its description does not."""
    for data in doctree.findall(lambda node: isinstance(node, desc) and node["objtype"] == "data"):
        for part in list(data[0].findall(desc_annotation)):
            if part.astext().startswith(" = "):
                part.parent.remove(part)
