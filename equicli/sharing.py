"""What leaves a run: one file of weights, a program for another runtime, a repository on the Hub."""

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from equicli import artifact
from equicli.claims import find_artifact, plan_export
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.decode import Decoder, UnreadableImageError
from equicli.data.reencode import NONE, find_encoding
from equicli.errors import EquicliError, UsageError, counted
from equicli.export import hub
from equicli.export.export import check_program, write_programs
from equicli.export.programs import Wanted
from equicli.files import writing_output
from equicli.prediction.checkpoint_files import sha256_of
from equicli.progress import Progress, Silent
from equicli.reports import markdown
from equicli.runs import Run
from equicli.serving.inputs import find_inputs

REAL_SAMPLES = 8  # that an exported program is compared on
SILENT = Silent()


def export(
    path: str | None,
    output: str | None,
    *,
    form: str | None = None,
    adapter_only: bool = False,
    hashes: bool = True,
    data: str | None = None,
    image_size: int | None = None,
    with_preprocessing: bool = False,
    half: bool = False,
    opset: int | None = None,
    network: nn.Module | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write a run's model as one file.

    Args:
        form: one of `claims.FORMATS`; see `plan_export`.
        hashes: of safetensors, with the fingerprints of the pictures that training saw, where there are any.
        data: pictures that a program is compared on; None takes test images of the run.
        image_size, with_preprocessing, half, opset: of programs; see `programs.Wanted`.

    Returns:
        path, sha256 and bytes of the file, whether it is an adapter only, and the Python that loads it; of a program
        what it takes and how it compares. `files` has those of two programs.
    """
    file, target, form = plan_export(path, output, form, adapter_only=adapter_only, overwrite=overwrite)
    _, run = find_artifact(path)
    if form != "safetensors":
        program = artifact.load(file, network=network)
        check_program(program, form)
        samples = _some_samples(run, data, program.preprocess.decoder(program.value_ranges), progress)
        wanted = Wanted(form, samples, image_size, with_preprocessing, half, opset, new=not overwrite)
        written, document = write_programs(target, program, artifact.read_config(file), wanted, progress)
        files = [_told(path) for path in written]
        return {**(files[0] if len(files) == 1 else {"files": files}), **document}
    checkpoint = run.read_settings().get("network", {}).get("checkpoint") if run and adapter_only else None
    config = artifact.read_config(file)
    model = artifact.load(file, network=network)
    pictures = artifact.read_pictures_seen(file) if hashes else None
    with writing_output(target):
        artifact.write_artifact(target, model, config, adapter_only=adapter_only, pictures=pictures, new=not overwrite)
    return {
        **_told(target),
        "adapter_only": adapter_only,
        "load": artifact.load_call(target, config, adapter_only=adapter_only, checkpoint=checkpoint),
    }


def _told(path: Path) -> dict[str, Any]:
    return {"path": str(path), "sha256": sha256_of(path), "bytes": path.stat().st_size}


def push_to_hub(
    path: str | None,
    repository: str,
    *,
    private: bool,
    adapter_only: bool = False,
    network: nn.Module | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Put a run on the Hub: model.safetensors, config.json and the card, with the base model's licence.

    Args:
        private: of a repository that is made.
        adapter_only: leave the prediction network out.
        overwrite: the repository may exist.

    Returns:
        The repository, the commit, and the Python that loads it.

    Raises:
        UsageError: it is no run, its metrics are not its own, or the repository is none or may not be written.
        EquicliError: the Hub refuses it.
    """
    hub.check_name(repository)
    file, run = find_artifact(path)
    metrics = None if run is None else run.read_metrics()
    if run is None or metrics is None:
        raise UsageError(f"--push-to-hub: {file} is no run folder with metrics, of which the card is made; name one.")
    if other := _other_than_recorded(run, metrics):
        raise UsageError(
            f"--push-to-hub: the last metrics of {run.folder} are of {', '.join(other)}, not what the card tells of; "
            f"run `equicli evaluate {run.folder}` first."
        )
    config = artifact.read_config(file)
    licence, unknown = None, None
    try:
        licence = hub.licence_of(config.provenance)
    except EquicliError as error:
        unknown = error
    card = markdown.model_card(metrics, asdict(config), licence)
    with TemporaryDirectory(prefix="equicli-") as folder:
        model = Path(folder) / "model.safetensors"
        # Without the fingerprints of training pictures: what is pushed may be public.
        artifact.write_artifact(model, artifact.load(file, network=network), config, adapter_only=adapter_only)
        files: dict[str, Path | bytes] = {
            model.name: model,
            "config.json": config.to_json().encode(),
            "README.md": card.encode(errors="backslashreplace"),
        }
        commit = hub.push(repository, files, private=private, overwrite=overwrite)
    if unknown is not None:
        progress.say(f"the card names no licence of the base model: {unknown}")
    return {"repository": repository, "commit": commit, "load": f"equicli.load({repository!r})"}


def _other_than_recorded(run: Run, metrics: Mapping[str, Any]) -> list[str]:
    """The flags by which metrics were measured otherwise than a run's settings say."""
    usual = run.recorded().evaluation
    encoding = str(find_encoding(usual.reencode, usual.rotate) or NONE)
    others = {"--precision": metrics["precision"] != "fp32", "--reencode": metrics["reencode"] != encoding}
    return [*metrics["overrides"], *(flag for flag, other in others.items() if other)]


def _some_samples(
    run: Run | None, data: str | None, decoder: Decoder | CloudDecoder, progress: Progress
) -> list[Tensor]:
    """A few real pictures or clouds, those of the run's own test set where nobody names others.

    Raises:
        UsageError: others are named for clouds.
    """
    things = "clouds" if isinstance(decoder, CloudDecoder) else "pictures"
    if data is not None:
        if isinstance(decoder, CloudDecoder):
            raise UsageError("--data: is for pictures; clouds are those of the run's test set. Leave it out.")
        paths = [Path(path) for path in find_inputs([data], io.StringIO(), progress)]
    else:
        folder = None if run is None or not run.split.is_file() else Path(run.recorded().data)
        paths = [folder / name for name in run.read_split()["test"]] if run and folder else []
    chosen = paths[:: max(1, len(paths) // REAL_SAMPLES)][:REAL_SAMPLES]
    found, unreadable = [], []
    for path in chosen:
        try:
            found.append(decoder.read(path))
        except UnreadableImageError as error:
            unreadable.append(error)
    if unreadable:
        progress.say(f"{len(unreadable)} of {counted(len(chosen), things)} to compare on unreadable: {unreadable[0]}")
    if not found:
        progress.say(f"no {things} to compare on but random ones; name a folder with --data")
    return found
