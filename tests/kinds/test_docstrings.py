"""What the docstring of every public function and class of vae_ref.kinds says."""

import importlib
import inspect
import pkgutil
import re

import pytest

import vae_ref.kinds

PUBLIC = {
    f"{module.__name__.rpartition('.')[2]}.{name}": thing
    for found in pkgutil.iter_modules(vae_ref.kinds.__path__, "vae_ref.kinds.")
    for module in [importlib.import_module(found.name)]
    for name in module.__all__
    if getattr(thing := getattr(module, name), "__module__", "") == module.__name__
}
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if inspect.isfunction(thing)}
CLASSES = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing)}

FORMULA = r"\.\. math::|:math:`"
CHECK = r"(?m)require\w*\(|^\s+raise "


def section(name):
    return rf"(?m)^ *{name}:"


def lacks(thing, *patterns):
    return [pattern for pattern in patterns if not re.search(pattern, thing.__doc__)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_computes_and_where_that_is_from(name):
    function = FUNCTIONS[name]
    arguments = list(inspect.signature(function).parameters)
    raises = bool(re.search(CHECK, inspect.getsource(function)))
    parts = ["Args"] * bool(arguments) + arguments + ["Raises"] * raises
    assert not lacks(
        function, FORMULA, *map(section, [*parts, "Returns", "Example", "References"])
    )


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_says_what_it_is_and_where_that_is_from(name):
    kind = CLASSES[name]
    holds_results = hasattr(kind, "_fields") or getattr(kind, "_is_protocol", False)
    parts = ["Attributes"] if holds_results else ["Example", "References"]
    assert not lacks(kind, *[FORMULA] * (not holds_results), *map(section, parts))


def test_there_are_functions_and_classes():
    assert len(FUNCTIONS) > 60
    assert len(CLASSES) > 10
