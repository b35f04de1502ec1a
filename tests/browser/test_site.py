"""Every page of the built site, as a reader without a network sees it: on a phone, in the dark."""

from collections import defaultdict
from urllib.parse import quote

import pytest

from tests.browser.fixtures import browser, site  # noqa: F401 - fixtures
from tests.browser.looking import CHECKS, look
from tests.browser.reading import broken_links, pages, wrong_languages

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def found(browser, site):
    faults = defaultdict(list)
    for page in pages(site):
        for check, what in look(browser, site, page):
            faults[check].append(what)
    return faults


@pytest.mark.parametrize("check", CHECKS)
def test_nowhere(check, found):
    assert not found[check], "\n".join([f"{CHECKS[check]}:", *found[check]])


def test_every_link_leads_somewhere(site):
    assert not (broken := list(broken_links(site))), "\n".join(broken)


def test_every_page_states_its_language(site):
    assert not (wrong := list(wrong_languages(site))), "\n".join(wrong)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("变分自编码器", "guide/zh/"),
        ("坍缩", "guide/zh/loss.html"),
        ("后验坍缩", "guide/zh/loss.html"),
        ("posterior collapse", "howto/collapse.html"),
    ],
)
def test_the_search_finds_words_of_both_languages(browser, site, words, page):
    from selenium.webdriver.support.ui import WebDriverWait  # of the extra "browser"

    browser.get(f"{(site / 'search.html').as_uri()}?q={quote(words)}")
    WebDriverWait(browser, 60).until(
        lambda driver: driver.find_elements(
            "css selector", f"#search-results li a[href*='{page}']"
        )
    )
