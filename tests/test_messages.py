"""The languages of the terminal: which one is spoken, and whether its catalogue is whole."""

import json
import string
import subprocess
import sys

import pytest
import torch
from rich.cells import cell_len

from tests import catalogue
from vae_ref import cli
from vae_ref.support import messages
from vae_ref.support.messages import in_english, say, spoken, translated

CHINESE = {"LANG": "zh_CN.UTF-8"}
CATALOGUES = [pytest.param(file, id=file.stem) for file in catalogue.catalogues()]


@pytest.mark.parametrize(
    ("environment", "is_chinese"),
    [
        ({}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "fr_FR.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, False),
        (CHINESE, True),
        ({"LANG": "zh_CN"}, True),
        ({"LANG": "zh_CN.GB18030"}, True),
        ({"LANG": "zh"}, True),
        ({"LANG": "zh_TW.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, True),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, True),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en:zh_CN"}, False),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "fr:zh_CN"}, True),
        ({"LANGUAGE": "zh_CN"}, True),
        ({"LC_ALL": "C", "LANGUAGE": "zh_CN"}, False),
        ({"LC_ALL": "POSIX", **CHINESE}, False),
        ({"LANG": "../support/zh_CN"}, False),
        ({"LANG": "/etc/passwd"}, False),
    ],
)
def test_the_locale_decides(environment, is_chinese):
    with spoken(environment):
        assert say("holds") == ("成立" if is_chinese else "holds")
    assert say("holds") == "holds"


def test_english_can_be_spoken_within():
    with spoken(CHINESE):
        with in_english():
            assert say("holds") == "holds"
        assert say("holds") == "成立"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("there is no module and encode", "没有 module 和 encode"),
        ("there is no loss", "没有 loss"),
        ("the function takes images of 784 pixels only", "这个函数只接受 784 个像素的图像"),
        ("there is no kl function of its own", "没有单独的 kl 函数"),
        ("the KL is 2, not 1", "KL：实为 2，应为 1"),
        (
            "z, with the noise that gives eps at mu = 0, logvar = 0, is 12.7 at [0, 1], not 4.7",
            "由 mu = 0、logvar = 0 时给出 eps 的噪声得到的 z：在 [0, 1] 处实为 12.7，应为 4.7",
        ),
        ("the noise of {0} % is 2, not 1", "the noise of {0} %：实为 2，应为 1"),
        ("two\nlines that nobody translated", "two\nlines that nobody translated"),
        ("", ""),
    ],
)
def test_a_finished_text_is_translated_by_its_template(text, said):
    with spoken(CHINESE):
        assert translated(text) == said
    assert translated(text) == text


@pytest.mark.parametrize("file", CATALOGUES)
def test_a_catalogue_is_read_as_gettext_reads_it(file):
    read = {m.id: m.string for m in catalogue.read(file) if m.id and m.string}
    assert messages.read(file) == read


@pytest.mark.parametrize("file", CATALOGUES)
def test_a_catalogue_has_what_is_said_and_nothing_else(file):
    """Where it fails, `python -m tests.catalogue` adds and removes; the translations are yours."""
    known = messages.read(file)
    missing = [text for text in catalogue.required() if text not in known]
    assert missing == []
    assert catalogue.stale(catalogue.read(file)) == []
    assert not [m.id for m in catalogue.read(file) if m.fuzzy]


@pytest.mark.parametrize("file", CATALOGUES)
def test_a_translation_has_the_places_of_its_sentence(file):
    for sentence, said in messages.read(file).items():
        assert _places(said) == _places(sentence), sentence


def _places(text: str) -> list[tuple]:
    """A sentence that is never formatted may have braces of its own."""
    try:
        return sorted(
            (field, form) for _, field, form, _ in string.Formatter().parse(text) if field
        )
    except ValueError:
        return [("braces", str(text.count("{")))]


@pytest.fixture
def chinese(monkeypatch, capsys, tmp_path, user):
    """Run the command as somebody does whose terminal is in Chinese, of 80 columns."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.delenv("LANGUAGE")
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["vae-ref", *arguments])
        with pytest.raises(SystemExit):
            cli.main()
        return capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "[OPTIONS] COMMAND [ARGS]... 检验和训练变分自编码器。"),
        (["verify", "-h"], "默认：0；加上 --isolated 时为 fresh"),
        (["train", "-h"], "[环境变量：VAE_REF_DATA; 默认：data]"),
        (["claims", "kl/closed-form"], "KL = ½ Σ_d (μ_d² + σ_d² − log σ_d² − 1)"),
        (["claims", "kl/gradient-*"], "kl/gradient-mu 梯度 KL 散度对 mu 的梯度是 mu。"),
        (["verify", "--in-process", "--only", "kl/gradient-mu"], "未发现错误：检验了 1 条断言；"),
    ],
)
def test_the_command_speaks_chinese_within_80_columns(chinese, arguments, words):
    output, errors = chinese(*arguments)
    assert errors == ""
    assert words in " ".join(output.split()), output
    assert max(map(cell_len, output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["claims", "kl"], "没有断言与 'kl' 匹配；你是不是想用 kl/*？"),
        (
            ["claims", "training/kl"],
            "没有断言与 'training/kl' 匹配；你是不是想用 training/* 或 training/loss？",
        ),
        (["trian"], "没有命令 'trian'。你是不是想用 'train'？"),
        (["verify", "no.py", "--in-process"], "没有文件 no.py"),
        (["verify", "--olny"], "没有选项 --olny；相近的选项：--json, --only"),
        (["adapt"], "缺少参数 'FILE'。"),
        (["train", "--epochs"], "选项 '--epochs' 后面缺少值。"),
        (["train", "--epochs", "x"], "'--epochs' 的值无效：必须是整数"),
        (["train", "--epochs", "0"], "'--epochs' 的值无效：不能小于 1"),
        (["train", "--epochs", "9" * 9], "'--epochs' 的值无效：不能大于 1000000"),
        (["train", "--beta", "x"], "'--beta' 的值无效：必须是数"),
        (["verify", "--level", "x"], "'--level' 的值无效：'x' 不是 'standard', 'trained' 之一"),
        (["verify", "--seed", "x"], "--seed 必须是一个数或 fresh，不能是 x。请用 0、1、2……"),
    ],
)
def test_so_do_its_errors(chinese, arguments, said):
    assert chinese(*arguments) == ("", f"vae-ref: {said}\n")


WRONG = """
def kl_divergence(mu, logvar):
    return 2 * (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum()
"""


def test_machines_read_the_same_in_every_locale(chinese, tmp_path, monkeypatch):
    (tmp_path / "wrong.py").write_text(WRONG)
    arguments = ["verify", "wrong.py", "--in-process", "--only", "kl/closed-form"]
    written = []
    for language in ("zh_CN", "en"):
        monkeypatch.setenv("LANGUAGE", language)
        output, _ = chinese(*arguments, "--json", "r.json", "--junit", "r.xml")
        assert ("你的 KL 缺少因子 1/2" in output) == (language == "zh_CN")
        report = json.loads((tmp_path / "r.json").read_text())
        for timed in (report, *report["claims"]):
            timed.pop("seconds")
        junit = (tmp_path / "r.xml").read_text()
        written.append((report, junit.partition("your KL")[2].partition("</failure>")[0]))
    assert written[0] == written[1]
    assert written[0][1]


def test_english_reads_no_catalogue():
    """It costs time, and so does what is imported to find it."""
    code = (
        "import sys; from vae_ref.cli.app import run; from vae_ref.support import messages; "
        "messages.read = None; sys.argv[1:] = ['--version']; run()"
    )
    environment = {"PATH": "", "LANG": "en_US.UTF-8", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("vae-ref ")
