"""`equicli adapt`: train a canonicalizer for a pretrained network on a dataset folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equicli.cli.options import (
    CANONICALIZER,
    NETWORK,
    OUTPUT,
    RUNNING,
    TRAINING,
    BatchSize,
    Checkpoint,
    ClassMap,
    Epochs,
    FitHead,
    Group,
    ImageSize,
    Json,
    MaxPixels,
    Mean,
    ModelArg,
    OnDevice,
    OnTask,
    Overwrite,
    Padding,
    Precision,
    Preprocessing,
    Prompts,
    Quiet,
    Recipe,
    Revision,
    StartFrom,
    Std,
    Strict,
    TestSplit,
    TrainSplit,
    Upright,
    UseEma,
    ValSplit,
    ValueRange,
    plain,
)
from equicli.cli.output import Output

if TYPE_CHECKING:
    from equicli.config import AdaptConfig
    from equicli.runs import Run


def adapt_command(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="Image folder: train/<class>/…, <class>/…, or images alone.",
            show_default="what the recipe says",
        ),
    ] = None,
    task: OnTask = None,
    class_map: ClassMap = None,
    train_split: TrainSplit = None,
    val_split: ValSplit = None,
    test_split: TestSplit = None,
    value_range: ValueRange = None,
    max_pixels: MaxPixels = None,
    strict: Strict = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="timm name, owner/name on the Hub, torchvision:NAME or python:module:factory; pointnet, dgcnn; none: "
            "poses alone.",
            rich_help_panel=NETWORK,
            show_default="what the recipe says",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    ema: UseEma = None,
    revision: Revision = None,
    model_arg: ModelArg = None,
    prompts: Prompts = None,
    head: FitHead = None,
    preprocess: Preprocessing = None,
    image_size: ImageSize = None,
    mean: Mean = None,
    std: Std = None,
    start_from: StartFrom = None,
    group: Group = None,
    canonicalizer: Annotated[
        str | None,
        typer.Option(
            help="How poses are found: consensus, optimized, equivariant, energy, frame, none; of so2, o2 steerable; "
            "of point clouds vector-neuron, optimized, frame, none.",
            rich_help_panel=CANONICALIZER,
            show_default="consensus; of so2 and o2 steerable; of point clouds vector-neuron",
        ),
    ] = None,
    canonicalizer_network: Annotated[
        str | None,
        typer.Option(
            help="auto (best for its cost), conv (ours), a timm or torchvision name; equivariant: gcnn, gwrn, escnn.",
            rich_help_panel=CANONICALIZER,
            show_default="auto; of equivariant gcnn",
        ),
    ] = None,
    canonicalizer_checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Its weights, from a file.", rich_help_panel=CANONICALIZER, show_default="the published ones"
        ),
    ] = None,
    canonicalizer_size: Annotated[
        int | None,
        typer.Option(
            help="Side of its input in pixels.",
            rich_help_panel=CANONICALIZER,
            show_default="of auto what suits the network, else 64; of equivariant and steerable 65",
        ),
    ] = None,
    passes: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Ask the network again where the pose is not sure: so many passes an image, on average; 1: never.",
            rich_help_panel=CANONICALIZER,
            show_default="as few up to 1.25 as pay",
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="Poses of the training images, as in r90 or r0,r180; a YAML file of poses and shares; or model: "
            "those of which the network says the right thing. Of so3 upright: z is up, the heading unknown.",
            rich_help_panel=CANONICALIZER,
            show_default="r0, upright; of d2, d3, … and o2 r0,r0m",
        ),
    ] = None,
    padding: Annotated[
        Padding | None,
        typer.Option(
            metavar="HOW",
            help="What images turned off the grid show from outside: edge, reflect or zeros.",
            rich_help_panel=CANONICALIZER,
            show_default="edge",
        ),
    ] = None,
    train_base: Annotated[
        bool,
        typer.Option(
            "--train-base",
            help="Train the network, too, on labels; it is frozen otherwise.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    upright: Upright = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of split, initialization and shuffling.", rich_help_panel=TRAINING, show_default="0"),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Of training. auto: bf16 on CUDA, else fp32.", rich_help_panel=TRAINING, show_default="auto"),
    ] = None,
    device: OnDevice = None,
    recipe: Recipe = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of resolved.yaml, such as prior_weight=2; repeatable.",
            rich_help_panel=RUNNING,
            show_default="none",
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with an unfinished run and its settings; only DATA that moved and --epochs differ.",
            rich_help_panel=RUNNING,
            show_default="a new run",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Run folder.", rich_help_panel=OUTPUT, show_default="runs/<model>-<group>-<time>"
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a canonicalizer in front of a frozen pretrained network.

    Writes runs/<name>/ with model.safetensors and reports; nothing of the network changes without --train-base.

    Example: equicli adapt --model vit_base --group c4 data/
    """
    from equicli.recipes import parse_pair

    flags = {
        "data": data,
        "upright": upright or None,
        "start_from": start_from,
        "model": model,
        "group": group,
        "task.kind": task,
        "checkpoint": checkpoint,
        "ema": plain(ema),
        "revision": revision,
        **{f"model_args.{key}": value for key, value in (parse_pair(a, "--model-arg") for a in model_arg or [])},
        "prompts": prompts,
        "head": plain(head),
        "class_map": class_map,
        "train_split": train_split,
        "val_split": val_split,
        "test_split": test_split,
        "preprocess": plain(preprocess),
        "image_size": image_size,
        "mean": mean,
        "std": std,
        "canonicalizer.kind": canonicalizer,
        "canonicalizer.network": canonicalizer_network,
        "canonicalizer.checkpoint": canonicalizer_checkpoint,
        "canonicalizer.size": canonicalizer_size,
        **({} if passes is None else {"policy.kind": "gate" if passes > 1 else "one"}),
        "policy.passes": passes if passes and passes > 1 else None,
        "prior": prior,
        "padding": plain(padding),
        "train_base": train_base or None,
        "epochs": epochs,
        "batch_size": batch_size,
        "value_range": value_range,
        "max_pixels": max_pixels,
        "seed": seed,
        "device": device,
        "precision": plain(precision),
        "strict": strict or None,
    }
    out = Output(json=json, quiet=quiet)
    with _claimed(flags, settings or [], recipe, resume, output, overwrite=overwrite) as (config, run):
        from equicli import pipeline

        try:
            metrics = pipeline.adapt(config, run, out, resume=resume is not None, show=out.metrics)
        except (KeyboardInterrupt, OSError):
            if run.begun and not run.finished:
                out.say(f"to go on: equicli adapt --resume {run.folder}{_own(config)}")
            raise
    own = _own(config)
    out.say(f"\nwrote {run.folder}/")
    measure = f"equicli evaluate{own}"
    if metrics["near_chance"]:
        parts = " and ".join(metrics["near_chance"])
        verb = "are" if len(metrics["near_chance"]) > 1 else "is"
        out.say(f"next: adapt anew; {parts} {verb} near chance, and the lines above say what may help. To measure it:")
        out.say(f"      {measure}")
    else:
        use = "export" if metrics["network"] else f"upright {run.folder} PHOTOS --output FOLDER"
        out.say(f"next: {measure}\n      equicli {use}{own}")


@contextmanager
def _claimed(
    flags: Mapping[str, Any],
    settings: Sequence[str],
    recipe: str | None,
    resume: str | None,
    output: str | None,
    *,
    overwrite: bool,
) -> Iterator[tuple["AdaptConfig", "Run"]]:
    """The configuration, and the folder of a new or unfinished run, held until the end."""
    from equicli.claims import claim_new, claim_unfinished
    from equicli.config import build_config
    from equicli.errors import UsageError
    from equicli.resume import resume_config

    if resume is None:
        config = build_config(flags, settings, recipe)
        with claim_new(output, config.network.model, config.group, overwrite=overwrite) as run:
            yield config, run
        return
    if settings or recipe or output or overwrite:
        raise UsageError(
            "--resume takes all settings from the run; leave out --set, --recipe, --output and --overwrite."
        )
    with claim_unfinished(resume) as run:
        yield resume_config(run, flags), run


def _own(config: "AdaptConfig") -> str:
    """What names the user's own code, which has to be typed every time."""
    from equicli.config import names_code

    return f" --model {config.network.model}" if names_code(config.network.model) else ""
