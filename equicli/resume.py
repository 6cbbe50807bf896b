"""The configuration of a run that is gone on with: what was recorded, and the little that may be other."""

from collections.abc import Mapping
from typing import Any

from equicli.config import MODEL, AdaptConfig, names_code, refuse_code, resolve
from equicli.errors import EquicliError, UsageError, shown
from equicli.runs import Run
from equicli.settings import TrainingSettings
from equicli.tree import merge

# What may be given anew.
_RESUMED = (MODEL, "data", "training.epochs")


def resume_config(run: Run, flags: Mapping[str, Any]) -> AdaptConfig:
    """The configuration that a run was made with, to go on with it.

    Args:
        flags: by key. A model that is code is typed again; the data folder may have moved; there may be more epochs.
            All else is taken from the run.

    Raises:
        UsageError: other flags, other code than recorded or code that is not typed again, or epochs that would not give
            what as many from the start would.
        EquicliError: the run's settings are damaged.
    """
    recorded, typed = merge(run.read_settings()), merge(None, (), flags)
    refuse_code(recorded, typed, f"--resume {run.folder}")
    for given in typed.given:
        if given.key not in _RESUMED or (given.key == MODEL and not names_code(given.value)):
            raise UsageError(
                f"--resume takes '{given.written}' from the run; give no other options but DATA where that moved, more "
                "--epochs, --json, --quiet and, where it is your own code, --model python:…"
            )
    if typed.get(MODEL) not in (None, recorded.get(MODEL)):
        raise UsageError(
            f"--resume {run.folder}: was begun with --model {shown(recorded.get(MODEL))}, not {typed.get(MODEL)}; "
            "type that, or start anew."
        )
    try:
        before = resolve(recorded)
    except UsageError as error:
        raise EquicliError(f"{run.settings}: {error} Start anew, into another folder.") from None
    config = resolve(merge(recorded, (), typed))
    _check_longer(run, before.training, config.training.epochs)
    return config


def _check_longer(run: Run, before: TrainingSettings, epochs: int) -> None:
    """Refuse other epochs where going on would give something else than as many from the start."""
    why = None
    if epochs < before.epochs:
        why = f"the run was to take {before.epochs}"
    elif epochs > before.epochs and run.trained:
        why = "training is over"
    elif epochs > before.epochs and run.state.is_file() and before.schedule != "constant":
        why = f"those that are done had a learning rate for {before.epochs} (schedule={before.schedule})"
    if why is not None:
        raise UsageError(
            f"--epochs {epochs}: {why}; start anew: equicli adapt --recipe {run.settings} --epochs {epochs}"
        )
