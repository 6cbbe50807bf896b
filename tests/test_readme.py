"""The README says what is so."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_files_names_everything_in_the_package_and_nothing_else() -> None:
    section = README.partition("## The code")[2].partition("\n## ")[0]
    cells = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    named = {name.removeprefix("equicli/").rstrip("/") for name in re.findall(r"`([^`]+)`", cells)} - {
        "recipes",
        "tests",
    }
    package = {p.name for p in (ROOT / "equicli").iterdir() if not p.name.startswith("__") and p.name != "py.typed"}
    assert named == package


def test_the_top_level_holds_only_what_the_project_names() -> None:
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:  # an unpacked archive
        return
    top = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    named = {"equicli", "tests", "recipes", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    assert {name for name in top if not name.startswith(".")} <= named


def test_every_recipe_is_named() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert recipe.stem in README + changelog


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.search(r"```sh\n(.*?)```", README, re.S)
    assert commands is not None
    test_command = commands[1].splitlines()[1].partition("#")[0].strip()
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert test_command.partition("&& ")[2] in ci
