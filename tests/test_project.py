"""The project as a thing that is shipped: what the wheel holds, and what the source may not hold.

Not about behaviour. Each rule is a function from text to complaints, and is shown a planted offence before it is shown
the real thing, because a search that finds nothing looks the same whether it works or not.
"""

from __future__ import annotations

import ast
import configparser
import email
import email.message
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import durable

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "durable"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

# ------------------------------------------------------------------------------------------------------- the wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a freshly built wheel, by name."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _meta(wheel: dict[str, bytes], file: str) -> str:
    (name,) = (name for name in wheel if name.endswith(f".dist-info/{file}"))
    return wheel[name].decode()


def _metadata(wheel: dict[str, bytes]) -> email.message.Message:
    return email.message_from_string(_meta(wheel, "METADATA"))


_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[0-9A-Za-z]{36}\b"
    r"|\bxox[abp]-[0-9A-Za-z-]{20,}"
)
_HOMES = re.compile(r"(?<![\w.])/(?:home|Users|root)/\w+|\b[A-Z]:\\+Users\\+\w+")
_NOT_FOR_A_WHEEL = (".db", ".env", ".key", ".log", ".p12", ".pem", ".pyc", ".sqlite", ".so")


def _offences(name: str, content: bytes) -> list[str]:
    """What is wrong with this file of a wheel, as sentences."""
    found = []
    if "tests" in Path(name).parts or Path(name).name.startswith(("test_", "conftest.")):
        found.append(f"{name} is a test")
    if not name.startswith(("durable/", "durable_engine-")):
        found.append(f"{name} is outside of the package")
    if name.endswith(_NOT_FOR_A_WHEEL):
        found.append(f"{name} is of a kind that is not shipped")
    text = content.decode("utf-8", "replace")
    found += [f"{name} holds something like a secret: {hit[:12]}..." for hit in _SECRETS.findall(text)]
    found += [f"{name} holds a path of somebody's machine: {hit}" for hit in _HOMES.findall(text)]
    if str(ROOT) in text or sys.prefix in text:
        found.append(f"{name} holds a path of this machine")
    return found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("durable/tests/laws.py", b""),
        ("durable/core/test_loop.py", b""),
        ("samples/orders/__main__.py", b""),
        ("durable/server.pem", b""),
        ("durable/a.py", b"KEY = '''-----BEGIN RSA " + b"PRIVATE KEY-----'''"),
        ("durable/a.py", b"TOKEN = 'ghp_" + b"a" * 36 + b"'"),
        ("durable/a.py", b"open('/home/" + b"ann/orders.db')"),
        ("durable/a.py", b"open('C:\\\\Users" + b"\\\\ann')"),
        ("durable/a.py", str(ROOT / "durable").encode()),
    ],
)
def test_planted_offence_in_a_wheel_is_seen(name: str, content: bytes) -> None:
    assert _offences(name, content)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: dict[str, bytes]) -> None:
    assert [line for name, content in wheel.items() for line in _offences(name, content)] == []


def test_the_wheel_holds_every_module(wheel: dict[str, bytes]) -> None:
    assert {str(path.relative_to(ROOT)) for path in SOURCES} == {
        name for name in wheel if name.endswith(".py")
    }


def test_the_wheel_says_that_it_is_typed(wheel: dict[str, bytes]) -> None:
    assert "durable/py.typed" in wheel


def test_the_wheel_carries_its_licence(wheel: dict[str, bytes]) -> None:
    licence = _meta(wheel, "licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert _metadata(wheel)["License-Expression"] == "Apache-2.0"


def test_the_wheel_has_the_name_and_version_that_are_promised(wheel: dict[str, bytes]) -> None:
    found = _metadata(wheel)
    assert found["Name"] == "durable-engine"
    assert found["Version"] == PROJECT["project"]["version"] == durable.__version__
    assert found["Requires-Python"] == ">=3.11"


def test_the_wheel_registers_stores_that_it_holds(wheel: dict[str, bytes]) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(_meta(wheel, "entry_points.txt"))
    stores = parser["durable.backends"]
    assert {"memory", "sqlite"} <= set(stores)
    for scheme, target in stores.items():
        module, _, attribute = target.partition(":")
        path = module.replace(".", "/")
        source = wheel.get(f"{path}.py") or wheel.get(f"{path}/__init__.py")
        assert source is not None, f"{scheme}: the wheel has no module {module}"
        assert attribute in source.decode(), f"{scheme}: {module} has no {attribute}"


def test_the_changelog_knows_the_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].startswith(PROJECT["project"]["version"])


# ---------------------------------------------------------------------------------------------------- what it needs


# In the standard library of a newer Python than the one that runs this.
_NEWER_STANDARD = {"annotationlib"}
# Pydantic's own interface speaks of these two, so they are declared by declaring it.
_WITH_PYDANTIC = {"pydantic_core", "typing_extensions"}


def _imported(source: str) -> set[str]:
    """The top-level packages that this module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", name, maxsplit=1)[0]).lower()


def _undeclared(source: str) -> set[str]:
    """The packages that this module imports and that pyproject.toml does not name, as dependency or in an extra."""
    project = PROJECT["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    declared = {_normal(line) for line in lines}
    distributions = metadata.packages_distributions()
    foreign = _imported(source) - sys.stdlib_module_names - _NEWER_STANDARD - _WITH_PYDANTIC - {"durable"}
    return {
        name
        for name in foreign
        if not declared & {_normal(owner) for owner in distributions.get(name, [name])}
    }


def test_undeclared_import_is_seen() -> None:
    assert _undeclared("import pluggy\nimport json, orjson\nfrom pymysql.cursors import Cursor") == {"pluggy"}
    assert _undeclared("def f():\n    from not_installed_anywhere import x") == {"not_installed_anywhere"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_is_of_something_declared(path: Path) -> None:
    assert _undeclared(path.read_text()) == set()


def test_the_package_is_imported_without_the_tools_of_its_tests() -> None:
    script = (
        "import sys\n"
        "for name in ('pytest', 'hypothesis', 'xdist', 'uvloop', 'asyncmy'): sys.modules[name] = None\n"
        "import durable\n"
        "sys.exit('durable.testing was loaded' if 'durable.testing' in sys.modules else 0)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


# -------------------------------------------------------------------------------------- nothing runs what was stored

_CODE_FROM_DATA = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "jsonpickle", "marshal", "shelve"}
_CODE_FROM_TEXT = {"eval", "exec", "__import__"}
_UNSAFE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load"}


def _suspects(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names if alias.name.partition(".")[0] in _CODE_FROM_DATA]
        case ast.ImportFrom(module=str(module), names=names):
            top = module.partition(".")[0]
            hidden = _CODE_FROM_TEXT if top == "builtins" else _UNSAFE_YAML if top == "yaml" else set()
            whole = [module] if top in _CODE_FROM_DATA else []
            return whole + [alias.name for alias in names if alias.name in hidden]
        case ast.Name(id=name) if name in _CODE_FROM_TEXT:
            return [name]
        case ast.Attribute(value=ast.Name(id="builtins" | "__builtins__"), attr=name) if (
            name in _CODE_FROM_TEXT
        ):
            return [f"builtins.{name}"]
        case ast.Attribute(value=ast.Name(id="yaml"), attr=name) if name in _UNSAFE_YAML:
            return [f"yaml.{name}"]
        case ast.Call(
            func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[argument, *_]
        ):
            named = argument.value if isinstance(argument, ast.Constant) else ""
            return [f"import_module({named!r})"] if str(named).partition(".")[0] in _CODE_FROM_DATA else []
    return []


def _dangers(source: str) -> list[str]:
    """Where this module reaches for a way of turning stored data into running code: "line: name"."""
    tree = ast.walk(ast.parse(source))
    return [f"{getattr(node, 'lineno', 0)}: {name}" for node in tree for name in _suspects(node)]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import marshal as m",
        "from shelve import open",
        "def f():\n    from cloudpickle.compat import pickle",
        "import jsonpickle.unpickler",
        "x = eval('1')",
        "run = exec",
        "__import__('os')",
        "import builtins\nbuiltins.eval('1')",
        "from builtins import exec as run",
        "import yaml\nyaml.load(text)",
        "from yaml import unsafe_load",
        "import importlib\nimportlib.import_module('pickle')",
    ],
)
def test_planted_danger_is_seen(source: str) -> None:
    assert _dangers(source)


@pytest.mark.parametrize(
    "source", ["re.compile('x')", "redis.eval(script)", "import yaml\nyaml.safe_load(text)"]
)
def test_harmless_namesake_is_let_through(source: str) -> None:
    assert _dangers(source) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_turns_data_into_code(path: Path) -> None:
    assert _dangers(path.read_text()) == []


# ------------------------------------------------------------------------------------------- exceptions have reasons


def test_import_linter_has_no_list_of_exceptions() -> None:
    for contract in PROJECT["tool"]["importlinter"]["contracts"]:
        assert not [key for key in contract if "ignore" in key], contract["name"]


def test_every_lint_rule_that_is_ignored_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    lint = PROJECT["tool"]["ruff"]["lint"]
    for code in [*lint["ignore"], *lint["per-file-ignores"]["tests/**"]]:
        assert re.search(rf'^ +"{code}", +# .{{10}}', text, re.MULTILINE), (
            f"{code} is ignored without a reason"
        )
