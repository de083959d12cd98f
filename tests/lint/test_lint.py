"""Each rule on a file that is wrong on purpose: found is what its lines are marked with, and nothing else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from durable.cli.main import main
from durable.lint import RULES, lint
from durable.lint.flake8 import Plugin

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
SINGLE = sorted(path.name for path in FIXTURES.glob("*.py") if path.name != "dur100.py")
_MARK = re.compile(r"#.*\b(DUR\d{3})\b")


def marked(path: Path) -> set[tuple[str, int, str]]:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return {
        (file.name, number, match[1])
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (match := _MARK.search(line))
    }


def found(path: Path) -> set[tuple[str, int, str]]:
    return {(each.path.name, each.line, each.code) for each in lint([path])}


@pytest.mark.parametrize("name", SINGLE)
def test_a_rule_finds_the_marked_lines_and_no_others(name: str) -> None:
    path = FIXTURES / name
    assert marked(path), "a fixture without a mark shows nothing"
    assert found(path) == marked(path)


def test_every_rule_has_a_fixture() -> None:
    assert {f"{code.lower()}.py" for code in RULES} <= {path.name for path in FIXTURES.glob("*.py")}


def test_a_silence_needs_a_reason() -> None:
    told = [(each.line, each.code) for each in lint([FIXTURES / "dur100.py"])]
    assert told == [(8, "DUR101"), (8, "DUR100"), (9, "DUR101"), (9, "DUR100"), (11, "DUR101")]


def test_calls_are_followed_within_the_package() -> None:
    assert found(FIXTURES / "shop") == marked(FIXTURES / "shop")


def test_files_that_were_not_named_are_followed_into() -> None:
    assert found(FIXTURES / "shop/workflow.py") == marked(FIXTURES / "shop")


def test_a_finding_says_what_to_do_and_how_the_workflow_comes_there() -> None:
    (clock,) = [each for each in lint([FIXTURES / "shop"]) if each.path.name == "clocks.py"]
    assert clock.message == (
        "DUR101 wall clock: time.time(); use durable.now(), or asyncio.get_running_loop().time() "
        "[checkout() -> again() -> first() -> second() -> third()]"
    )
    assert [step.path.name for step in clock.way] == ["workflow.py"] * 4 + ["clocks.py"]


def test_the_page_lists_the_rules() -> None:
    page = (ROOT / "docs/how-to/lint.md").read_text()
    for rule in RULES.values():
        assert f"| `{rule.code}` | {rule.about} | {rule.instead} |" in page


def test_the_samples_are_clean() -> None:
    assert lint([ROOT / "samples"]) == []


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_places_and_exits_with_one() -> None:
    result = CliRunner().invoke(main, ["lint", str(FIXTURES / "dur105.py")])
    assert result.exit_code == 1
    first = result.output.splitlines()[0]
    assert re.fullmatch(r".*dur105\.py:11:5: DUR105 a blocking call: time\.sleep\(\); .*", first)


def test_the_command_is_content_with_clean_code() -> None:
    result = CliRunner().invoke(main, ["lint", str(ROOT / "samples")])
    assert (result.exit_code, result.output) == (0, "")


def test_the_command_lists_the_rules() -> None:
    result = CliRunner().invoke(main, ["lint", "--rules"])
    assert [line.split()[0] for line in result.output.splitlines()] == list(RULES)


def test_what_is_no_python_is_a_mistake_of_the_call(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:\n")
    result = CliRunner().invoke(main, ["lint", str(tmp_path)])
    assert result.exit_code == 2
    assert "broken.py" in result.output


def test_nothing_of_the_package_is_imported(tmp_path: Path) -> None:
    (tmp_path / "never.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "work.py").write_text(
        "import durable, never\n\n@durable.workflow\nasync def work():\n    never.f()\n"
    )
    assert lint([tmp_path]) == []
    assert "never" not in sys.modules


# --- flake8 -----------------------------------------------------------------------------------------------------------


def plugin(path: Path) -> list[tuple[int, str]]:
    made = Plugin(ast.parse(path.read_text()), str(path), path.read_text().splitlines(keepends=True))
    return [(line, text) for line, _, text, _ in made.run()]


def test_the_plugin_gives_what_the_command_gives() -> None:
    path = FIXTURES / "dur101.py"
    assert [line for line, _ in plugin(path)] == [each.line for each in lint([path])]


def test_the_plugin_tells_of_other_files_at_the_line_that_leads_there() -> None:
    path = FIXTURES / "shop/workflow.py"
    source = path.read_text().splitlines()
    told = {source[line - 1].strip(): text for line, text in plugin(path)}
    assert "(clocks.py:5)" in told["clocks.third()"]
    assert "(prices.py:5)" in told["total()"]
    assert plugin(FIXTURES / "shop/clocks.py") == []


def test_the_plugin_takes_the_text_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "unsaved.py"
    path.write_text("")
    text = "import time, durable\n\n@durable.workflow\nasync def work():\n    time.time()\n"
    made = Plugin(ast.parse(text), str(path), text.splitlines(keepends=True))
    assert [line for line, *_ in made.run()] == [5]
    piped = Plugin(ast.parse(text), "stdin", text.splitlines(keepends=True))
    assert [line for line, *_ in piped.run()] == [5]
    assert list(Plugin(ast.parse(text), "-").run()) == []


def test_flake8_finds_the_plugin() -> None:
    command = [sys.executable, "-m", "flake8", "--select", "DUR", str(FIXTURES / "dur105.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "DUR105" in done.stdout
