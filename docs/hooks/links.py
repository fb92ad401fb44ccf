"""mkdocs hook: pages written for the repository work in the site: a link to a file of code leads to its text."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages of the repository's root, which lie outside of docs/, and what the site calls them."""
NOTEBOOK, NOTEBOOK_PAGE = "docs/tutorial.ipynb", "tutorial.md"
_LINK = re.compile(r"(?P<code>```.*?```|`[^`\n]*`)|\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)", re.DOTALL)


def origin(uri: str) -> str:
    """The path in the repository of a page of the site."""
    return next((path for path, page in ROOT_PAGES.items() if page == uri), f"docs/{uri}")


def target(path: str) -> str | None:
    """The page or file of the site for a path of the repository; None where the repository has no such file."""
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    if path == NOTEBOOK:
        return NOTEBOOK_PAGE
    if (ROOT / path).is_dir() and (ROOT / path / "README.md").is_file():
        path = posixpath.join(path, "README.md")
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}.md" if (ROOT / path).is_file() else None


def links(markdown: str, uri: str) -> list[str]:
    """The files of the repository, outside of docs/, that a page links to."""
    here = posixpath.dirname(origin(uri))
    linked = (found["path"] for found in _LINK.finditer(markdown) if found["path"])
    paths = [posixpath.normpath(posixpath.join(here, path)) for path in linked]
    return [path for path in paths if (target(path) or "").startswith("source/")]


def on_files(files: Files, config: Any) -> Files:
    """Adds the root's pages, and a page for each file of code that a page links to."""
    for path, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text(encoding="utf-8")))
    wanted = {path for page in files.documentation_pages() for path in links(page.content_string, page.src_uri)}
    for path in sorted(wanted):
        code = (ROOT / path).read_text(encoding="utf-8")
        fence = "`" * (1 + max((len(run) for run in re.findall(r"`{3,}", code)), default=2))
        kind = Path(path).suffix.lstrip(".") or "text"
        content = f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n{fence}{kind}\n{code}\n{fence}\n"
        files.append(File.generated(config, f"source/{path}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **event: Any) -> str:
    """Turns links of the repository into links of the site. What leads nowhere stays, and mkdocs warns of it."""
    uri = page.file.src_uri
    here = posixpath.dirname(origin(uri))
    if uri.startswith("source/"):
        return markdown

    def rewrite(found: re.Match[str]) -> str:
        if not found["path"]:
            return found[0]
        there = target(posixpath.normpath(posixpath.join(here, found["path"])))
        if there is None or uri.startswith("reference/") or uri == NOTEBOOK_PAGE:
            return found[0]
        return f"]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{found['anchor'] or ''})"

    return _LINK.sub(rewrite, markdown)
