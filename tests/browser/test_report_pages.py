"""Reports of `vae-ref verify --html`, as Chromium shows them from a file."""

import pytest
import torch

from tests.browser.fixtures import browser  # noqa: F401 - fixtures
from tests.browser.looking import look
from vae_ref.conformance import Subject, audit_step, verify
from vae_ref.conformance.reports.charts import pictures
from vae_ref.conformance.reports.html import as_html
from vae_ref.conformance.runner import probe_of

pytestmark = pytest.mark.browser

BUTTON = "button[aria-controls]"
REFUSED = "navigator.clipboard.writeText = () => Promise.reject(); "


def kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean()


def reparameterize(mu, logvar):
    return mu + torch.exp(logvar / 2) * torch.randn_like(mu)


def step():
    heads, decoder, x = torch.nn.Linear(12, 6), torch.nn.Linear(3, 12), torch.rand(5, 12)
    mu, logvar = heads(x).chunk(2, 1)
    logits = decoder(reparameterize(mu, logvar))
    nll = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return nll + kl(mu, logvar)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A directory with the reports of a subject that is wrong, and of a step."""
    directory = tmp_path_factory.mktemp("reports")
    subject = Subject(name="<b>wrong</b>", kl=kl, reparameterize=reparameterize)
    drawn = pictures(probe_of(subject))
    (directory / "subject.html").write_text(as_html(verify(subject, only="kl/*"), drawn))
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    audit_step(step).write_html(directory / "step.html")
    torch.set_default_dtype(default)
    return directory


@pytest.fixture
def copied(browser, reports):
    """Press the first button that copies; return what it says, what was copied, and the code."""
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", permissions)

    def press(script, *keys):
        browser.get((reports / "subject.html").as_uri())
        browser.execute_script(script)
        button = browser.find_element("css selector", BUTTON)
        button.send_keys(*keys) if keys else button.click()
        said, clipboard, selected, code = browser.execute_async_script(
            """
            const [button, done] = arguments;
            const code = document.getElementById(button.getAttribute("aria-controls"));
            setTimeout(async () => done([
              button.previousElementSibling.textContent, await navigator.clipboard.readText(),
              getSelection().toString(), code.textContent,
            ]), 200);
            """,
            button,
        )
        return said, clipboard, selected, code

    return press


@pytest.mark.parametrize("name", ["subject.html", "step.html"])
def test_nothing_is_wrong_with_a_report(browser, reports, name):
    assert list(look(browser, reports, name)) == []


@pytest.mark.parametrize("name", ["subject.html", "step.html"])
def test_nothing_is_wrong_with_what_is_unfolded(browser, reports, name):
    text = (reports / name).read_text().replace("<details>", "<details open>")
    (reports / "open.html").write_text(text)
    assert list(look(browser, reports, "open.html")) == []


@pytest.mark.parametrize("keys", [(), (" ",), ("\ue007",)])
def test_code_is_copied(copied, keys):
    said, clipboard, _, code = copied("", *keys)
    assert (said, clipboard) == ("copied", code)
    assert "import numpy" in code


def test_code_is_copied_from_the_selection_where_the_clipboard_is_refused(copied):
    said, clipboard, _, code = copied(REFUSED)
    assert (said, clipboard) == ("copied", code)


def test_code_is_selected_where_nothing_can_be_copied(copied):
    said, _, selected, code = copied(REFUSED + "document.execCommand = () => false;")
    assert said == "selected: press Ctrl+C"
    assert selected.strip() == code.strip()


def test_a_link_unfolds_what_it_leads_to(browser, reports):
    browser.get((reports / "subject.html").as_uri() + "#kl/near-prior")
    target = browser.find_element("id", "kl/near-prior")
    assert target.is_displayed()
