"""The README says what is so."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = (ROOT / "equicli" / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *(ROOT / "equicli").rglob("*.md"), *(ROOT / "tests" / "benchmarks").glob("*.md")]
PAGES = [page for page in PAGES if page.parent.name != "templates"]


def headings(page: Path) -> set[str]:
    """What a link may name after `#`, as GitHub makes it of a heading."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not heading or heading in headings(there), target


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 250


def test_every_page_is_found_from_the_readme() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)\s]+)\)", README)}
    assert {page.resolve() for page in PAGES} - {ROOT / "README.md"} <= linked


def test_the_table_of_files_names_everything_in_the_package_and_nothing_else() -> None:
    section = CODE.partition("## What lies where")[2].partition("\n## ")[0]
    cells = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    named = {name.removeprefix("equicli/").rstrip("/") for name in re.findall(r"`([^`]+)`", cells)} - {
        "recipes",
        "tests",
    }
    package = {p.name for p in (ROOT / "equicli").iterdir() if not p.name.startswith("__")}
    package -= {"py.typed", "README.md"}
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
        assert recipe.stem in CODE + changelog


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.search(r"```sh\n(.*?)```", README, re.S)
    assert commands is not None
    test_command = commands[1].splitlines()[1].partition("#")[0].strip()
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert test_command.partition("&& ")[2] in ci


def test_the_examples_of_contributing_adapt_evaluate_and_keep_the_laws(cli, digits, tmp_path, monkeypatch) -> None:
    import torch

    from equicli import groups
    from equicli.canonicalization.registry import REGISTRY
    from equicli.groups import parse_group
    from equicli.groups.action import act
    from tests.canonicalization.examples import context, noise

    section = CODE.partition("## Contributing")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.S)
    names: dict[str, object] = {}
    for code in blocks[::2]:
        exec(code, names)
    for block, registry in ((blocks[1], REGISTRY), (blocks[3], groups.REGISTRY)):
        for key, value in eval("{" + block.partition("\n")[2] + "}", names).items():
            monkeypatch.setitem(registry, key, value)

    (tmp_path / "data").symlink_to(digits)
    network = ("--model", "test_resnet", "--model-arg", "num_classes=9", "--checkpoint", weights(tmp_path))
    flags = ("--preprocess", "none", "--canonicalizer", "bright-side-up", "--group", "water")
    result = cli("adapt", *network, *flags, "data", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    result = cli("evaluate", "--rotations", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    water = parse_group("water")
    module, x = REGISTRY["bright-side-up"](context("water")), noise(8, 12)
    pose = module(x)
    mirrored = module(act(water, 1, x))
    assert torch.equal(mirrored.element, 1 - pose.element)
    assert torch.equal(act(water, mirrored.element, act(water, 1, x)), act(water, pose.element, x))


def weights(folder: Path) -> Path:
    import timm
    from safetensors.torch import save_file

    path = folder / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=9).state_dict(), path)
    return path
