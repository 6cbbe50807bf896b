"""equicli: make a large pretrained vision model rotation-equivariant without touching the model.

The command line is `equicli --help`. From Python, `equicli.load(path)` returns an exported artifact as an `nn.Module`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "read_config"]

if TYPE_CHECKING:
    from equicli.artifact import load, read_config


def __getattr__(name: str) -> Any:
    # Lazy, because `equicli --help` must not pay for importing torch.
    if name in ("load", "read_config"):
        from equicli import artifact

        return getattr(artifact, name)
    raise AttributeError(f"module 'equicli' has no attribute {name!r}")
