"""Turning a JPEG by moving its compressed blocks, by libjpeg-turbo's own transform: nothing is encoded again."""

from equicli.errors import reason

# Of D4, what libjpeg-turbo calls it: it turns clockwise.
_OPERATIONS = ("NONE", "ROT270", "ROT180", "ROT90", "HFLIP", "TRANSPOSE", "VFLIP", "TRANSVERSE")


class CannotMoveError(Exception):
    """Why the blocks of a file are not moved."""


def move_blocks(jpeg: bytes, element: int, *, progressive: bool) -> bytes:
    """A JPEG turned by an element of D4, with the same coefficients, and all its metadata as it was.

    Args:
        progressive: write it so.

    Raises:
        CannotMoveError: blocks at an edge that would lie inside are not whole, or the extra `jpeg` is not installed.
    """
    try:
        from turbojpeg import OP, transform
    except ImportError:  # another package has this name, too
        raise CannotMoveError("without loss it takes the extra jpeg: pip install 'equicli[jpeg]'") from None
    try:
        moved: bytes = transform(jpeg, getattr(OP, _OPERATIONS[element]), perfect=True, progressive=progressive)
    except RuntimeError as error:
        whole = "not perfect" in str(error)
        raise CannotMoveError("its size is no whole number of blocks" if whole else reason(error)) from error
    return moved
