"""A MkDocs hook: other Markdown files of the project become pages, and links follow."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[1]
PATTERNS = ("*.md", "benchmarks/*.md", "colab/*.md", "tfds_builders/*/README.md")
FOLDER = "project"
"""The site's folder of files from outside `docs/`, by their paths in the repository."""


def list_project_pages() -> list[str]:
    """Returns the paths of Markdown files outside `docs/`, relative to the repository."""
    paths = (path for pattern in PATTERNS for path in REPOSITORY.glob(pattern))
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in paths)


def on_files(files: Files, config: Any) -> Files:
    """Returns the files of the site with the project's other Markdown files added."""
    for path in list_project_pages():
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        files.append(File.generated(config, f"{FOLDER}/{path}", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Returns the text of a page with its links to files turned into links to pages.

    A link to a file that is no page (source code, a folder) keeps its text and loses its target.
    """
    site_path = page.file.src_uri
    is_project = site_path.startswith(f"{FOLDER}/")
    source = site_path.removeprefix(f"{FOLDER}/") if is_project else f"docs/{site_path}"
    pages = {path: f"{FOLDER}/{path}" for path in list_project_pages()}
    for path in (REPOSITORY / "docs").rglob("*"):
        if path.is_file():
            name = path.relative_to(REPOSITORY / "docs").as_posix()
            pages[f"docs/{name}"] = name

    def follow(match: re.Match) -> str:
        mark, text, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        wanted = next((p for p in (wanted, f"{wanted}/README.md") if p in pages), None)
        if wanted is None:
            return text if mark == "" else ""
        link = posixpath.relpath(pages[wanted], posixpath.dirname(site_path) or ".")
        return f"{mark}[{text}]({link}{hash_sign}{anchor})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", follow, markdown)
