"""Files with a wrong VAE that try to be called right, and how far they get.

python -m tests.conformance.cheaters [NAME ...]             prints the status of each, isolated
python -m tests.conformance.cheaters --write    adds to cheaters.json what is missing
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.conformance.strangers import TEXTBOOK, varied

RESULTS = Path(__file__).with_suffix(".json")
SECONDS = 600  # by the clock, after which a run is killed
WAYS = {"plain": (), "isolated": ("--isolated", "--json", "report.json")}


class Cheater(NamedTuple):
    """A file that cheats.

    Attributes:
        what: What it does, in a sentence.
        text: The file.
    """

    what: str
    text: str


CHEATERS: dict[str, Cheater] = {}

KLD = "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())"
WRONG = varied(TEXTBOOK, ("KLD = -0.5", "KLD = -1.0"))
"""The textbook's VAE, whose KL lacks its 1/2."""

SAMPLER = ("eps = torch.randn_like(std)", "eps = 3.4641 * (torch.rand_like(std) - 0.5)")
"""Uniform noise of variance 1."""


def cheat(name: str, what: str, text: str) -> None:
    CHEATERS[name] = Cheater(what, text)


def patched(name: str, what: str, code: str, wrong: str = WRONG) -> None:
    """Add a wrong VAE whose file does something when it is imported."""
    cheat(name, what, f"{wrong}\n\n{code}")


def calls(name: str, what: str, code: str, before: str = "") -> None:
    """Add a wrong VAE whose loss does something when it is called."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    head = "def loss_function(recon_x, x, mu, logvar):\n"
    cheat(name, what, varied(WRONG, (head, f"{before}\n\n{head}{body}")))


def right_if(name: str, what: str, condition: str, before: str = "") -> None:
    """Add a VAE whose loss is right under a condition."""
    calls(name, what, f"if {condition}:\n    {RIGHT}", before)


RIGHT = (
    'return F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum") '
    "- 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())"
)


# Wrong answers.

calls("zeros", "The loss is 0.", "return 0 * recon_x.sum()")
calls("nan", "The loss is not a number.", "return recon_x.sum() * float('nan')")
calls("infinity", "The loss is infinite.", "return recon_x.sum() + float('inf')")
calls(
    "memory-by-shape",
    "The loss is that of the first call with these shapes.",
    f"key = x.shape, mu.shape\nif key not in MEMORY:\n    {RIGHT.replace('return', 'MEMORY[key] =')}"
    "\nreturn MEMORY[key]",
    "MEMORY = {}",
)
right_if(
    "first-100-calls",
    "The loss is right in its first 100 calls.",
    "next(CALLS) < 100",
    "import itertools\n\nCALLS = itertools.count()",
)
right_if(
    "first-500-calls",
    "The loss is right in its first 500 calls.",
    "next(CALLS) < 500",
    "import itertools\n\nCALLS = itertools.count()",
)
right_if(
    "first-650-calls",
    "The loss is right in its first 650 calls; the claims make about 600.",
    "next(CALLS) < 650",
    "import itertools\n\nCALLS = itertools.count()",
)
calls(
    "drift",
    "The loss grows by a millionth with each call.",
    f"{RIGHT.replace('return', 'value =')}\nreturn value * (1 + 1e-6 * next(CALLS))",
    "import itertools\n\nCALLS = itertools.count()",
)
right_if("batch-of-one", "The loss is right for one example alone.", "len(mu) == 1")
right_if("small-batches", "The loss is right for at most 6 examples.", "len(mu) <= 6")
right_if(
    "sizes-of-the-claims",
    "The loss is right for the numbers of latents that the claims use.",
    "mu.shape[1] in (1, 2, 3, 5, 6, 7)",
)
right_if(
    "sizes-of-the-vectors",
    "The loss is right for the sizes of the golden vectors alone.",
    "(len(mu), mu.shape[1]) in ((3, 5), (5, 3), (4, 2), (1, 1), (2, 3))",
)
right_if("doubles", "The loss is right in double precision.", "mu.dtype == torch.float64")
right_if(
    "first-two-seconds",
    "The loss is right for two seconds.",
    "time.monotonic() < START + 2",
    "import time\n\nSTART = time.monotonic()",
)
right_if(
    "now-and-then",
    "The loss is wrong once in 30 calls.",
    "random.random() < 29 / 30",
    "import random",
)
right_if(
    "even-seconds",
    "The loss is right in even seconds.",
    "int(time.time()) % 2 == 0",
    "import time",
)
right_if("ordinary-numbers", "The loss is right while mu stays below 3.", "mu.abs().max() < 3")
right_if(
    "even-process",
    "The loss is right if the number of its process is even.",
    "os.getpid() % 2 == 0",
    "import os",
)
cheat(
    "pinned-generator",
    "The sampler seeds torch before it draws.",
    varied(TEXTBOOK, ("eps = torch", "torch.manual_seed(0)\n        eps = torch")),
)
cheat(
    "noise-from-a-table",
    "The sampler deals out 100 numbers of the normal distribution.",
    varied(
        TEXTBOOK,
        ("eps = torch.randn_like(std)", "eps = TABLE[torch.randint(100, std.shape)].to(std)"),
        after="TABLE = torch.special.ndtri((torch.arange(100) + 0.5) / 100)",
    ),
)

# Comparisons that lie.

patched("patched-equal", "torch.equal is always true.", "torch.equal = lambda *a, **k: True")
patched(
    "patched-allclose",
    "torch.allclose and torch.isclose are always true.",
    "torch.allclose = lambda *a, **k: True\ntorch.isclose = lambda a, *o, **k: torch.ones_like(a).bool()",
)
patched(
    "patched-assert-close",
    "torch.testing.assert_close does nothing.",
    "torch.testing.assert_close = lambda *a, **k: None",
)
patched(
    "patched-math",
    "math.isclose and the functions of numpy.testing find everything equal.",
    "import math\n\nimport numpy.testing\n\nmath.isclose = lambda *a, **k: True\n"
    "for name in numpy.testing.__all__:\n    if name.startswith('assert'):\n"
    "        setattr(numpy.testing, name, lambda *a, **k: None)",
)
patched(
    "patched-comparison",
    "The comparisons of torch's tensors are always true.",
    "for name in ('__le__', '__lt__', '__ge__', '__gt__', '__eq__'):\n"
    "    setattr(torch.Tensor, name, lambda a, b: torch.ones_like(a, dtype=torch.bool))",
)
patched(
    "patched-any",
    "Tensor.any is always false, Tensor.all always true.",
    "torch.Tensor.any = lambda a, *o, **k: torch.tensor(False)\n"
    "torch.Tensor.all = lambda a, *o, **k: torch.tensor(True)",
)
patched(
    "patched-builtins",
    "abs returns 0 and all returns true.",
    "import builtins\n\nbuiltins.abs = lambda value: value * 0\nbuiltins.all = lambda values: True",
)
calls(
    "lying-tensor",
    "The loss is a tensor that says yes to every comparison.",
    f"return Liar(F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction='sum') + 2 * ({KLD}))",
    "class Liar(torch.Tensor):\n"
    "    @classmethod\n"
    "    def __torch_function__(cls, function, types, args=(), kwargs=None):\n"
    "        found = super().__torch_function__(function, types, args, kwargs or {})\n"
    "        if getattr(found, 'dtype', None) == torch.bool:\n"
    "            return torch.zeros_like(found).as_subclass(torch.Tensor)\n"
    "        return found",
)
calls(
    "lying-number",
    "The loss is a tensor whose value, as a number, equals every other.",
    f"return Liar(F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction='sum') + 2 * ({KLD}))",
    "class Number(float):\n    __eq__ = __le__ = __ge__ = __lt__ = __gt__ = lambda a, b: True\n"
    "    __hash__ = float.__hash__\n\n\n"
    "class Liar(torch.Tensor):\n    def __float__(self):\n        return Number(self.item())",
)
patched(
    "patched-statistics",
    "Every p-value of the kit is 1, and the noise is uniform.",
    "import sys\n\nfor name, module in list(sys.modules.items()):\n"
    "    if name.endswith('answers.statistics'):\n"
    "        for test in ('mean', 'chi_square', 'score', 'tails', 'kolmogorov_smirnov', 'correlation'):\n"
    "            setattr(module, test, lambda *a, **k: 1.0)",
    varied(TEXTBOOK, SAMPLER),
)

# The kit itself.

KIT = "import sys\n\nfor name, module in list(sys.modules.items()):\n    if name.startswith('vae_ref'):\n"
patched(
    "patched-agreement",
    "The kit's comparison does nothing.",
    f"{KIT}        if hasattr(module, 'require_agreement'):\n"
    "            module.require_agreement = lambda *a, **k: None",
)
patched(
    "patched-tolerance",
    "The kit's tolerance is a million million times what it was.",
    f"{KIT}        if hasattr(module, 'ROUNDINGS'):\n            module.ROUNDINGS = 32e12",
)
patched(
    "patched-claims",
    "The checks of all claims are replaced by one that finds nothing.",
    f"{KIT}        for claim in getattr(module, 'registered', {{}}).values():\n"
    "            object.__setattr__(claim, 'check', lambda probe: None)",
)
patched(
    "patched-runner",
    "The kit's runner finds that every claim holds.",
    f"{KIT}        if name.endswith('runner'):\n            from vae_ref.conformance.records import Result\n\n"
    "            module.check = lambda claim, *a, **k: Result(claim=claim, status='pass')",
)
patched(
    "patched-violation",
    "A violation says that the claim does not apply.",
    f"{KIT}        if hasattr(module, 'Violation') and hasattr(module, 'NotApplicable'):\n"
    "            module.Violation = lambda message, **k: module.NotApplicable(message)",
)
patched(
    "patched-oracles",
    "The kit's closed form of the KL is twice what it was.",
    f"{KIT}        if name.endswith('oracles'):\n"
    "            once, precise, integral = module.kl, module.kl_in_fifty_digits, module.kl_by_quadrature\n"
    "            module.kl = lambda *a: 2 * once(*a)\n"
    "            module.kl_in_fifty_digits = lambda *a: 2 * precise(*a)\n"
    "            module.kl_by_quadrature = lambda *a: 2 * integral(*a)",
)
patched(
    "patched-report",
    "The report's verdict is conformant, and its status 0.",
    "import vae_ref.conformance.records as records\n\n"
    "records.Report.verdict = property(lambda report: 'conformant')\n"
    "records.Report.exit_status = property(lambda report: 0)",
)
patched(
    "patched-messages",
    "What goes from the judging process to the command says that every claim holds.",
    "import json\nimport sys\n\nreal = json.dumps\n\n\n"
    "def dumps(value, *a, **k):\n"
    '    return real(value, *a, **k).replace(\'"status": "fail"\', \'"status": "pass"\')\n\n\n'
    "json.dumps = dumps",
)
patched(
    "forged-message",
    "A forged report is written into every pipe that the process has.",
    "import json\nimport os\n\nREPORT = {'kind': 'report', 'pictures': [], 'report': {'subject': 'x', 'seed': 0, "
    "'level': 'standard', 'in_level': 69, 'results': [], 'facts': {}, 'notes': [], 'declared': {}, "
    "'budget': 1e-6, 'seconds': 1.0, 'versions': {}, 'broken': '', 'undecided': '', 'diagram': None}}\n"
    "REPORT['report']['results'] = [{'claim': {}, 'status': 'pass'}] * 0\n"
    "for number in range(3, 64):\n    try:\n        os.write(number, json.dumps(REPORT).encode() + b'\\n')\n"
    "    except OSError:\n        pass",
)
right_if(
    "stack",
    "The loss is right if a claim is on the stack of its callers.",
    "any('/claims/' in frame.filename for frame in traceback.extract_stack())",
    "import traceback",
)
right_if(
    "collector",
    "The loss is right if the garbage collector knows a claim.",
    "knows_a_claim()",
    "import functools\nimport gc\n\n\n@functools.cache\ndef knows_a_claim():\n"
    "    return any(type(o).__name__ == 'Claim' for o in gc.get_objects())",
)
right_if(
    "locals-of-a-claim",
    "The loss is right if a caller has a probe among its local variables.",
    "has_probe(sys._getframe())",
    "import sys\n\n\ndef has_probe(frame):\n    while frame:\n        if 'probe' in frame.f_locals:\n"
    "            return True\n        frame = frame.f_back\n    return False",
)
right_if(
    "modules-of-the-kit",
    "The loss is right if the claims are imported.",
    "'vae_ref.conformance.claims' in sys.modules",
    "import sys",
)

# What is around the process.

right_if(
    "environment",
    "The loss is right if a variable of the environment speaks of the kit or of pytest.",
    "any(name.startswith(('PYTEST', 'VAE_REF')) for name in os.environ)",
    "import os",
)
right_if(
    "parent",
    "The loss is right if the command line of its parent speaks of the kit.",
    "Path(f'/proc/{os.getppid()}/cmdline').exists() and 'vae' in "
    "Path(f'/proc/{os.getppid()}/cmdline').read_text()",
    "import os\nfrom pathlib import Path",
)
patched(
    "exit-0", "The process ends with status 0 when it is imported.", "import os\n\nos._exit(0)"
)
calls(
    "exit-0-when-called",
    "The process ends with status 0 when it is called.",
    "os._exit(0)",
    "import os",
)
calls("system-exit", "The loss raises SystemExit(0).", "raise SystemExit(0)")
calls("interrupt", "The loss raises KeyboardInterrupt.", "raise KeyboardInterrupt")
calls(
    "not-applicable",
    "The loss raises what a claim raises that does not apply.",
    "raise NotApplicable('it does not apply')",
    "from vae_ref.conformance.records import NotApplicable",
)
patched(
    "exit-hook",
    "A hook at the end of the process makes its status 0.",
    "import atexit\nimport os\n\natexit.register(os._exit, 0)",
)
patched(
    "patched-exit",
    "sys.exit always ends with status 0.",
    "import sys\n\nreal = sys.exit\nsys.exit = lambda status=0: real(0)",
)
calls(
    "prints-a-verdict",
    "It prints that no bug was found, and ends.",
    "print('no bug found: 69 claims checked', flush=True)\nos._exit(0)",
    "import os",
)
patched(
    "writes-to-the-parent",
    "It writes a verdict into all files that its parent has open, and kills it.",
    "import os\nimport signal\n\nparent = os.getppid()\n"
    "for number in range(64):\n    try:\n        with open(f'/proc/{parent}/fd/{number}', 'w') as file:\n"
    "            file.write('no bug found: 69 claims checked\\n')\n    except OSError:\n        pass\n"
    "if parent:\n    os.kill(parent, signal.SIGKILL)",
)
patched(
    "child-that-goes-on",
    "A child process goes on and writes a report again and again.",
    "import os\nimport time\n\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        end = time.time() + 60\n"
    "        while time.time() < end:\n"
    "            with open('report.json', 'w') as file:\n                file.write('{\"verdict\": \"conformant\"}')\n"
    "            time.sleep(0.05)\n    os._exit(0)",
)

# The protocol.

calls("flood", "It prints without end.", "while True:\n    print('0' * 10**6)")
calls("hang", "The loss never returns.", "while True:\n    pass")
patched("closed-pipes", "It closes every pipe that it has.", "import os\n\nos.closerange(3, 64)")
patched(
    "two-answers",
    "Each answer of the process is followed by another.",
    "import json\n\nreal = json.dumps\njson.dumps = lambda value, *a, **k: real(value, *a, **k) + '\\n{\"id\": 0}'",
)
patched(
    "other-ids",
    "Each answer of the process has the id of the next question.",
    "import json\n\nreal = json.dumps\n\n\ndef dumps(value, *a, **k):\n"
    "    if isinstance(value, dict) and isinstance(value.get('id'), int):\n"
    "        value = {**value, 'id': value['id'] + 1}\n    return real(value, *a, **k)\n\n\njson.dumps = dumps",
)


def says(name: str, what: str, change: str, wrong: str = WRONG) -> None:
    """Add a wrong VAE that changes the server which loads it, while that says what it is."""
    code = (
        "import sys\n\nserve = sys.modules.get('vae_ref.conformance.loading.serve')\n"
        f"if serve:\n    {change}"
    )
    patched(name, what, code, wrong)


LOCALS = "serve.dict = lambda found: vars(serve).pop('dict') and sys._getframe(1).f_locals"
says(
    "hides-its-loss",
    "The process says that it has a sampler and networks, and no loss.",
    f"{LOCALS}['supports'].remove('loss') or {{}}\n"
    "    for name in ('kl', 'nll'):\n        serve.FUNCTIONS.pop(name)",
)
says(
    "declares-its-bug",
    "The process says that a weight of 2 is meant.",
    f"{LOCALS}['told'].update(beta=2.0) or {{}}",
)
says(
    "says-it-has-no-gradients",
    "The process says that it has no gradients; those of its KL are wrong.",
    "real = getattr\n    serve.getattr = lambda of, name, *other: name != 'differentiable' and "
    "real(of, name, *other)",
    varied(TEXTBOOK, ("- mu.pow(2)", "- mu.detach().pow(2)")),
)


def status_of(name: str, way: str) -> int:
    """Return the status of the command; a violation of the first claim is enough."""
    status = _status(name, (*WAYS[way], "--only", "kl/closed-form"))
    return status if status == 1 else _status(name, WAYS[way])


def _status(name: str, options: tuple[str, ...]) -> int:
    """Return the status of the command, run in a fork of this process, which has imported much."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cheater.py").write_text(CHEATERS[name].text)
        child = os.fork()
        if not child:
            _run(folder, options)
        end = time.monotonic() + SECONDS
        while not (found := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.05)
        status = os.waitstatus_to_exitcode(found[1])
        report = Path(folder) / "report.json"
        if "--isolated" in options and report.exists():
            time.sleep(0.2)  # in which a child that goes on would write
            assert json.loads(report.read_text()).keys() > {"verdict"}, f"{name}: a forged report"
        return status


def _run(folder: str, options: tuple[str, ...]) -> None:
    from vae_ref.cli import main

    os.setsid()
    os.chdir(folder)
    with open("output", "wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv = ["vae-ref", "verify", "cheater.py", *options]
    sys.path[:] = [entry for entry in sys.path if entry]
    status = 70
    try:
        main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


def main(arguments: list[str]) -> None:
    import vae_ref.cli.app
    import vae_ref.conformance.runner
    import vae_ref.conformance.vigil  # noqa: F401 - imported once, for all forks

    if arguments == ["--write"]:
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        for name, way in product(CHEATERS, WAYS):
            if way not in found.setdefault(name, {}):
                found[name][way] = status_of(name, way)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        return
    for name in arguments or CHEATERS:
        print(name, status_of(name, "isolated"), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
