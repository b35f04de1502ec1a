"""The checks notice what they are for, and nothing on a page without faults."""

import pytest

from tests.browser.fixtures import browser  # noqa: F401 - fixtures
from tests.browser.looking import CHECKS, look
from tests.browser.reading import broken_links, wrong_languages

pytestmark = pytest.mark.browser

LONG = "longer_than_a_phone_is_wide_" * 8
PAGE = """<!doctype html>
<html lang="en">
<head>
<title>A page</title>
<style>
  @media (prefers-color-scheme: dark) {{ body, a {{ background: #111; color: #eee; }} }}
</style>
</head>
<body><p>Some words.</p>{}</body>
</html>
"""
WHITE_BOX = (
    "<svg xmlns='http://www.w3.org/2000/svg'><rect width='400' height='400' fill='white'/></svg>"
)
HALF_WHITE = WHITE_BOX.replace("width='400'", "width='200'")
FAULTS = {
    "request": '<link rel="stylesheet" href="https://example.invalid/style.css">',
    "console": "<script>console.error('no')</script>",
    "width": f"<p>{LONG}</p>",
    "cut": f'<div style="overflow: hidden"><code>{LONG}</code></div>',
    "formula": r"<p>It is \(x^2\).</p>",
    "picture": '<img src="none.png" alt="Digits">',
    "glare": f'<img alt="Digits" src="data:image/svg+xml,{WHITE_BOX}">',
    "contrast": '<p style="color: #888; background: #aaa">faint</p>',
    "names": '<a href="page.html"></a>',
}
RIGHT = {
    "a text that breaks": "<p>" + "words that fit " * 100 + "</p>",
    "code that scrolls": f'<pre style="overflow: auto"><code>{LONG}</code></pre>',
    "TeX as an example": r"<p>Write <code>\(x^2\)</code>.</p>",
    "a link": '<p id="here"><a href="page.html#here">This page</a></p>',
    "a closed drawer": f'<nav style="position: fixed; right: 100%">{LONG}</nav>',
    "a picture with white parts": f'<img alt="Digits" src="data:image/svg+xml,{HALF_WHITE}">',
    "for screen readers": '<span style="position: absolute; width: 1px; height: 1px; '
    f'overflow: hidden">{LONG}</span>',
}


@pytest.fixture
def page_with(tmp_path):
    def write(body):
        (tmp_path / "page.html").write_text(PAGE.format(body))
        return tmp_path

    return write


@pytest.mark.parametrize("check", CHECKS)
def test_a_fault_is_found(check, browser, page_with):
    found = dict(look(browser, page_with(FAULTS[check]), "page.html"))
    assert check in found
    assert "page.html" in found[check]


@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT)
def test_what_is_right_is_not_found(body, browser, page_with):
    site = page_with(body)
    assert not list(look(browser, site, "page.html"))
    assert not list(broken_links(site))
    assert not list(wrong_languages(site))


def test_a_page_without_text_is_read(browser, tmp_path):
    (tmp_path / "page.html").write_text('<html lang="en"><title>A page</title></html>')
    assert not list(look(browser, tmp_path, "page.html"))


@pytest.mark.parametrize("link", ["none.html", "page.html#none", "#none", "folder/page.html"])
def test_a_broken_link_is_found(link, page_with):
    assert list(broken_links(page_with(f'<a href="{link}">there</a>'))) == [f"page.html: a {link}"]


def test_a_wrong_language_is_found(page_with):
    wrong = list(wrong_languages(page_with("<p>变分自编码器</p>")))
    assert wrong == ["page.html: states en, is in zh"]
