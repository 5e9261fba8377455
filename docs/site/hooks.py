"""Adds files of the repository to the documentation site, so that links that leave `docs/` work there.

A page may link to any file of the repository by its relative path, as a code host expects. The file appears in the site
under `repository/`; its own links are followed in the same way. A link to a folder leads to its README.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PREFIX = "repository/"
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^[ ]*```.*?^[ ]*```", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the navigation and all files that a page links to, directly or not."""
    todo = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    todo += ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "schemas/README.md"]
    seen: set[str] = set()
    while todo:
        path = todo.pop()
        if path in seen or not (ROOT / path).is_file():
            continue
        seen.add(path)
        if not path.startswith("docs/"):
            files.append(File.generated(config, PREFIX + path, abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            text = FENCE.sub("", (ROOT / path).read_text(encoding="utf-8"))
            todo += [_target(path, link) for _, link, _ in LINK.findall(text) if "://" not in link]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page from paths in the repository to paths in the site."""
    here = page.file.src_uri
    source = here.removeprefix(PREFIX) if here.startswith(PREFIX) else f"docs/{here}"

    def rewritten(match: re.Match[str]) -> str:
        opening, link, anchor = match.groups()
        if "://" in link or link.startswith("mailto:"):
            return match[0]
        target = _target(source, link)
        if (ROOT / target).is_dir():
            return opening.lstrip("!")[1:-2]  # a folder without a README has no page
        in_site = target.removeprefix("docs/") if target.startswith("docs/") else PREFIX + target
        return f"{opening}{posixpath.relpath(in_site, posixpath.dirname(here) or '.')}{anchor or ''})"

    parts = re.split(f"({FENCE.pattern})", markdown, flags=FENCE.flags)
    return "".join(part if index % 2 else LINK.sub(rewritten, part) for index, part in enumerate(parts))


def _target(source: str, link: str) -> str:
    """The file, relative to the repository, that a link of the page `source` leads to."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return f"{path}/README.md" if (ROOT / path / "README.md").is_file() else path


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Replaces the one script that the theme would load from a public server, for the search in pages opened as files."""
    here = posixpath.dirname(page.file.dest_uri) or "."
    return output.replace("https://unpkg.com/iframe-worker/shim", posixpath.relpath("assets/iframe-worker.js", here))


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Does the same in the page for missing addresses."""
    return output_content.replace("https://unpkg.com/iframe-worker/shim", "/assets/iframe-worker.js")
