"""equicli: make a large pretrained vision model rotation-equivariant without touching the model.

The command line is `equicli --help`. From Python, `equicli.load(path)` returns an exported artifact as an `nn.Module`,
whose `predict(pictures)` takes pictures of any size; `equicli.adapt(model, images)` makes such a module of your own
network; and `equicli.open_image(path)` is the decoder that both use.
"""

from typing import TYPE_CHECKING, Any

from equicli.version import VERSION

__version__ = VERSION
__all__ = ["__version__", "adapt", "load", "open_image", "read_config"]

if TYPE_CHECKING:
    from equicli.api import adapt
    from equicli.artifact import load, read_config
    from equicli.data.decode import open_image


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Lazy, because `equicli --help` must not pay for importing torch.
    if name == "adapt":
        from equicli import api

        return api.adapt
    if name in ("load", "read_config"):
        from equicli import artifact

        return getattr(artifact, name)
    if name == "open_image":
        from equicli.data import decode

        return decode.open_image
    raise AttributeError(f"module 'equicli' has no attribute {name!r}")
