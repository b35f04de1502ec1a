"""What can be seen in the files of a built site without a browser: its links and its languages."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["broken_links", "pages", "wrong_languages"]

LINKS = {"a": "href", "link": "href", "script": "src", "img": "src", "source": "src"}


def pages(site: Path) -> list[str]:
    """Return the pages of a site, as paths in it."""
    found = (path.relative_to(site) for path in site.rglob("*.html"))
    return sorted(str(path) for path in found if not path.parts[0].startswith("_"))


def broken_links(site: Path) -> Iterator[str]:
    """Yield the links to files and anchors of the site that it does not have."""
    for page in pages(site):
        for tag in _parsed(site / page).find_all(LINKS):
            link = tag.get(LINKS[tag.name])
            if link is not None and not _leads_somewhere(site / page, link):
                yield f"{page}: {tag.name} {link}"


def wrong_languages(site: Path) -> Iterator[str]:
    """Yield the pages whose text is not in the language that they state."""
    for page in pages(site):
        parsed = _parsed(site / page)
        text = (parsed.find("article") or parsed).get_text()
        chinese, latin = len(re.findall(r"[\u4e00-\u9fff]", text)), len(re.findall("[a-z]", text))
        is_in, stated = "zh" if 4 * chinese > latin else "en", parsed.html.get("lang", "none")
        if stated.partition("-")[0] != is_in:
            yield f"{page}: states {stated}, is in {is_in}"


def _leads_somewhere(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return False
    return not parts.fragment or unquote(parts.fragment) in _anchors(target)


@cache
def _anchors(page: Path) -> set[str]:
    return {tag["id"] for tag in _parsed(page).find_all(id=True)}


@cache
def _parsed(page: Path) -> Any:
    from bs4 import BeautifulSoup

    return BeautifulSoup(page.read_bytes(), "html.parser")
