"""`equicli adapt`: train a canonicalizer for a pretrained network on a dataset folder."""

from typing import Annotated

import typer

from equicli.cli.options import (
    BatchSize,
    Checkpoint,
    ImageSize,
    Json,
    Mean,
    ModelArg,
    Overwrite,
    Preprocessing,
    Quiet,
    Revision,
    Std,
)
from equicli.cli.output import Output


def adapt(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Image folder: train/<class>/…, <class>/…, or images alone.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="timm name, owner/name on the Hub, torchvision:NAME or python:module:factory.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="c4 is rotations by 90°, d4 these and reflections, c8 by 45°, so2 all.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What the network is asked for; see the README for tasks.")] = None,
    checkpoint: Checkpoint = None,
    revision: Revision = None,
    model_arg: ModelArg = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="Zero-shot networks: lines such as 'a photo of a {}.', or YAML of prompts by class."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="auto fits a linear head where classes do not match; none refuses; new: always.")
    ] = None,
    class_map: Annotated[
        str | None, typer.Option(metavar="FILE", help="Output of each class folder: JSON, YAML or lines of text.")
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder of training images in DATA; '.' is DATA itself.")
    ] = None,
    val_split: Annotated[str | None, typer.Option(metavar="NAME", help="Folder of validation images in DATA.")] = None,
    test_split: Annotated[str | None, typer.Option(metavar="NAME", help="Folder of test images in DATA.")] = None,
    preprocess: Preprocessing = None,
    image_size: ImageSize = None,
    mean: Mean = None,
    std: Std = None,
    canonicalizer: Annotated[
        str | None, typer.Option(help="optimized, equivariant or energy; steerable for so2 and o2.")
    ] = None,
    canonicalizer_network: Annotated[
        str | None,
        typer.Option(
            help="optimized: conv (small, ours), or a timm or torchvision name; equivariant: gcnn, gwrn, escnn."
        ),
    ] = None,
    canonicalizer_checkpoint: Annotated[str | None, typer.Option(help="Its weights, from a file.")] = None,
    canonicalizer_size: Annotated[int | None, typer.Option(help="Side of its input in pixels.")] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="Poses of the training images, as in r90 or r0,r180; or a YAML file of poses and shares."),
    ] = None,
    padding: Annotated[
        str | None, typer.Option(help="What images turned off the grid show from outside: edge, reflect or zeros.")
    ] = None,
    train_base: Annotated[
        bool, typer.Option("--train-base", help="Train the network, too, on labels; it is frozen otherwise.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: BatchSize = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, initialization and shuffling.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of training: auto (bf16 on CUDA), fp32, bf16 or fp16.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at an unreadable image instead of skipping it.")
    ] = False,
    recipe: Annotated[str | None, typer.Option(help="Name of a shipped recipe, or a YAML file.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting of resolved.yaml, such as prior_weight=2; repeatable."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Run folder; default: runs/<model>-<group>-<time>.")
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with an unfinished run; its settings are taken from it.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a canonicalizer in front of a frozen pretrained network.

    Writes runs/<name>/ with model.safetensors and reports; nothing of the network changes without --train-base.

    Example: equicli adapt --model vit_base --group c4 data/
    """
    from equicli.config import build_config
    from equicli.errors import UsageError
    from equicli.recipes import parse_pair
    from equicli.runs import Run, find_unfinished, new_run

    flags = {
        "data": data,
        "model": model,
        "group": group,
        "task.kind": task,
        "checkpoint": checkpoint,
        "revision": revision,
        **{f"model_args.{key}": value for key, value in (parse_pair(a, "--model-arg") for a in model_arg or [])},
        "prompts": prompts,
        "head": head,
        "class_map": class_map,
        "train_split": train_split,
        "val_split": val_split,
        "test_split": test_split,
        "preprocess": preprocess,
        "image_size": image_size,
        "mean": mean,
        "std": std,
        "canonicalizer.kind": canonicalizer,
        "canonicalizer.network": canonicalizer_network,
        "canonicalizer.checkpoint": canonicalizer_checkpoint,
        "canonicalizer.size": canonicalizer_size,
        "prior": prior,
        "padding": padding,
        "train_base": train_base or None,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "precision": precision,
        "strict": strict or None,
    }
    out = Output(json=json, quiet=quiet)
    if resume is None:
        config = build_config(flags, settings or [], recipe)
        run: Run = new_run(output, config.network.model, config.group, overwrite=overwrite)
    else:
        given = [name for name, value in flags.items() if value is not None]
        if given or settings or recipe or output or overwrite:
            raise UsageError("--resume takes every setting from the run; give no other option but --json and --quiet.")
        run = find_unfinished(resume)
        config = build_config({}, [], run.read_settings())

    from equicli import pipeline

    try:
        metrics = pipeline.adapt(config, run, out, resume=resume is not None)
    except KeyboardInterrupt:
        if run.state.is_file():
            out.say(f"to go on: equicli adapt --resume {run.folder}")
        raise
    out.metrics(metrics)
    elements = metrics["elements"]
    turns = f"--rotations {elements[1:]}" if elements[0] == "c" else "--elements group"
    own = f" --model {config.network.model}" if config.network.model.startswith("python:") else ""
    out.say(f"\nwrote {run.folder}/\nnext: equicli evaluate {turns}{own}\n      equicli export{own}")
