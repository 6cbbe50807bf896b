"""What the Hub reads of a model card: its front matter, with the metrics as `model-index`."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from equicli.errors import counted
from equicli.tasks.registry import find_task


def front_matter(metrics: Mapping[str, Any], config: Mapping[str, Any], licence: str | None = None) -> str:
    """The metadata as YAML, between its two lines of dashes.

    Args:
        licence: of the base model, which is carried over.
    """
    task, source = find_task(config["task"], config["task_settings"]), config["provenance"]
    name = f"{source['model'].rpartition('/')[2].rpartition(':')[2]}-{metrics['group']}"
    data = ModelCardData(
        library_name="equicli",
        pipeline_tag=task.tag,
        tags=["equivariance", "canonicalization", "rotation", metrics["group"]],
        base_model=source.get("repository"),
        license=licence,
        model_name=name,
        eval_results=_results(metrics, task.tag, task.score, task.title),
    )
    return f"---\n{data.to_yaml()}\n---"


def _results(metrics: Mapping[str, Any], tag: str, score: str, title: str) -> list[EvalResult]:
    measured = {
        title: (score, metrics["adapted"].get(score)),
        f"{str(metrics['elements']).upper()}-Avg {title}": (f"avg_{score}", metrics["adapted"].get(f"avg_{score}")),
        "Invariance residual": ("invariance_residual", metrics["adapted"].get("invariance_residual")),
    }
    return [
        EvalResult(
            task_type=tag,
            dataset_type="imagefolder",
            dataset_name=f"{counted(metrics['n'], 'pictures')} of a folder",
            dataset_split=metrics["split"],
            metric_type=kind,
            metric_name=called,
            metric_value=value,
        )
        for called, (kind, value) in measured.items()
        if value is not None
    ]
