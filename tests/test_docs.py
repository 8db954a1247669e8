"""The documentation builds without a warning, is complete, and needs nothing from outside."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest

import surefoot
from surefoot.catalogue import PROBLEMS

DOCS = Path(__file__).parents[1] / "docs"
POLICIES = sorted(set(surefoot.__all__) - {"Policy", "Run", "State", "Store", "schedule", "train", "__version__"})


class Page(HTMLParser):
    """What a page loads, where it links to, and what can be linked to in it."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in {"canonical", "prev", "next", "search", "index"}:
            self.loads.append(found["href"])
        self.loads += [found[name] for name in ("src", "srcset", "poster") if found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Every page of the site by its path, and the folder they are in; built from a copy."""
    source, target = tmp_path_factory.mktemp("docs") / "source", tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "-q", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path: Page(path.read_text("utf-8")) for path in target.rglob("*.html")}, target


def address(policy):
    """`CosineRestarts` has the page `cosine-restarts`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", policy).lower()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_has_its_page_with_a_picture_and_its_settings(site, policy):
    pages, target = site
    page = pages[target / "policies" / f"{address(policy)}.html"]
    pictures = [target / "policies" / name for name in page.loads if name.endswith(f"/{address(policy)}.svg")]
    assert [picture.read_text("utf-8")[:4] for picture in pictures] == ["<svg"]
    assert f"surefoot.{policy}" in page.anchors


def test_every_problem_is_described():
    text = (DOCS / "problems.md").read_text("utf-8")
    assert [name for name in PROBLEMS if f"| `{name}` |" not in text] == []


def test_every_module_stands_on_a_floor_of_the_architecture():
    text = (DOCS / "architecture.md").read_text("utf-8")
    rooms = {path.stem for path in Path(surefoot.__file__).parent.glob("*.py")} - {"__init__"}
    assert sorted(room for room in rooms if f"`{room}`" not in text) == []


def test_whatever_an_example_imports_is_in_the_reference(site):
    anchors = set().union(*(page.anchors for page in site[0].values()))
    missing = set()
    for path in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        line = r"^(?:>>> |\.\.\. )?from (surefoot[\w.]*) import (\w[\w, ]*\w)"
        for module, names in re.findall(line, path.read_text("utf-8"), re.MULTILINE):
            for name in re.split(r"[, ]+", re.sub(r" as \w+", "", names)):
                found = getattr(import_module(module), name, None)
                home = f"{getattr(found, '__module__', module)}.{getattr(found, '__qualname__', name)}"
                if not {f"{module}.{name}", home, f"module-{module}.{name}"} & anchors:
                    missing.add(f"{module}.{name}")
    assert sorted(missing) == []


def test_no_page_loads_anything_from_outside(site):
    pages, target = site
    assert [(path.name, name) for path, page in pages.items() for name in page.loads if re.match(r"\w+:|//", name)] == []
    styles = "".join(path.read_text("utf-8") for path in target.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//\S*", styles) == []


def test_links_between_pages_lead_somewhere(site):
    pages, _ = site
    for path, page in pages.items():
        for link in page.links:
            if not re.match(r"\w+:", link):
                name, _, anchor = unquote(link).partition("#")
                other = (path.parent / name).resolve() if name else path
                assert other.exists(), f"{path.name} links to {link}"
                assert not anchor or anchor in pages[other].anchors, f"{path.name} links to {link}"
