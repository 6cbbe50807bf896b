"""What a zero-shot network is told of the classes: texts made of their names, or given by the user."""

from collections.abc import Sequence
from pathlib import Path

from equicli.data.names import normal
from equicli.errors import UsageError, did_you_mean
from equicli.prediction.classes import imagenet_class_names
from equicli.recipes import read_yaml

Prompts = dict[str, tuple[str, ...]]


def class_prompts(path: str | None, classes: Sequence[str], template: str) -> tuple[Prompts, str]:
    """Find the prompts of each class, and tell in one line where they are from.

    Args:
        path: a text file of templates, one a line, in which `{}` stands for the class's name; or a YAML file, a mapping
            from class to its prompt or a list of them. None takes `template`.
        classes: names of the class folders, which may be WordNet ids of ImageNet; where there are none, a YAML file
            names the classes.

    Raises:
        UsageError: the file cannot be read, or does not name the classes.
    """
    if path is not None and path.endswith((".yaml", ".yml")):
        return _given_prompts(path, classes), Path(path).name
    if not classes:
        raise UsageError(
            "--model: a zero-shot network wants classes, and this folder has none. Put the images into class folders, "
            "or name classes and their prompts with --prompts FILE.yaml."
        )
    templates = (template,) if path is None else _read_templates(path)
    words = _class_words(classes)
    return {name: tuple(t.replace("{}", words[name]) for t in templates) for name in classes}, " | ".join(templates)


def _given_prompts(path: str, classes: Sequence[str]) -> Prompts:
    content = read_yaml(Path(path), "--prompts")
    if not isinstance(content, dict) or not content:
        raise UsageError(f"--prompts {path}: wants a mapping from each class to its prompt, or to a list of them.")
    prompts: Prompts = {}
    for name, value in content.items():
        texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise UsageError(f"--prompts {path}: '{name}' wants a prompt, or a list of them, in words.")
        prompts[normal(str(name))] = texts
    if not classes:
        return prompts
    for name in classes:
        if name not in prompts:
            raise UsageError(f"--prompts {path}: no prompt for class folder '{name}'.{did_you_mean(name, prompts)}")
    return {name: prompts[name] for name in classes}


def _read_templates(path: str) -> tuple[str, ...]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"--prompts {path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UsageError(f"--prompts {path}: not a text file.") from None
    templates = tuple(line.strip() for line in lines if line.strip())
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not templates:
        found = f"'{wrong[0]}' has none" if wrong else "the file is empty"
        raise UsageError(f"--prompts {path}: wants a template a line, with {{}} for the class's name; {found}.")
    return templates


def _class_words(classes: Sequence[str]) -> dict[str, str]:
    """Each folder's name in words: WordNet ids by what they stand for, `_` as a space."""
    known = {names[0]: names[1] for names in imagenet_class_names(1000) or ()}
    return {name: known.get(name, name.replace("_", " ")) for name in classes}
