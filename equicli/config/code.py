"""Code that a configuration names: only what a user types may be imported."""

from equicli.errors import UsageError, shown
from equicli.tree import Tree

# The setting that may name code to import.
MODEL = "network.model"


def names_code(model: object) -> bool:
    """Whether a model's name is code to import: `python:module:factory`."""
    return isinstance(model, str) and model.startswith("python:")


def refuse_code(said: Tree, typed: Tree, source: str) -> None:
    """Refuse code that only a file names: what is imported is run, so a user has to type its name.

    A canonicalization network is never code, whoever names it. `model_args` may come from the file: they are plain
    values, and the code that takes them is the user's.

    Args:
        said: what a recipe or the settings of a run say.
        typed: what the command line says.
        source: which file this is, for the error.

    Raises:
        UsageError: the file names code, and the command line names no model.
    """
    code = said.get(MODEL)
    if names_code(code) and typed.get(MODEL) is None:
        raise UsageError(
            f"{source}: names code to run, {shown(code)}, which only the command line may. "
            f"If you trust that code, add --model {shown(code)}"
        )
