"""Setting the orientation tag of a JPEG, and nothing else of it."""

import struct

from equicli.groups.planar import PlanarGroup

D4 = PlanarGroup(4, reflections=True)
# By the value of the tag, the element that turns stored pixels the right way up.
ELEMENTS = {1: 0, 2: 4, 3: 2, 4: 6, 5: 5, 6: 3, 7: 7, 8: 1}
TAGS = {element: tag for tag, element in ELEMENTS.items()}

_ORIENTATION, _SHORT = 274, 3
_EXIF = b"Exif\0\0"
_LONGEST = 0xFFFF - 2  # bytes of a segment


def with_orientation(jpeg: bytes, tag: int) -> bytes:
    """The same file with another orientation, 1 to 8, in its EXIF block, which is made where there is none.

    Every other byte of pixels and metadata stays. Where the block has no such entry, its first directory is written
    anew at its end, so that no offset changes.

    Raises:
        ValueError: the file's segments or its EXIF block cannot be read, or the block is full.
    """
    try:
        start, end = _exif_segment(jpeg)
        if start is None:
            return jpeg[:end] + _segment(_new_block(tag)) + jpeg[end:]
        return jpeg[:start] + _segment(_changed(jpeg[start + 4 + len(_EXIF) : end], tag)) + jpeg[end:]
    except (struct.error, IndexError) as error:
        raise ValueError("its EXIF block is damaged") from error


def _exif_segment(jpeg: bytes) -> tuple[int | None, int]:
    """Where the EXIF segment begins and ends; None and where it belongs, behind JFIF's, where there is none."""
    at = place = 2
    while jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        if jpeg[at + 1] == 0xFF:  # padding
            at += 1
            continue
        end = at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0]
        if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == _EXIF:
            return at, end
        if jpeg[at + 1] == 0xE0 and at == place:
            place = end
        at = end
    return None, place


def _segment(block: bytes) -> bytes:
    if len(block) + len(_EXIF) > _LONGEST:
        raise ValueError("its EXIF block has no room for an orientation")
    return b"\xff\xe1" + struct.pack(">H", len(block) + len(_EXIF) + 2) + _EXIF + block


def _new_block(tag: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, _SHORT, 1, tag, 0, 0)


def _changed(block: bytes, tag: int) -> bytes:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        raise ValueError("its EXIF block is damaged")
    first = struct.unpack_from(order + "I", block, 4)[0]
    count = struct.unpack_from(order + "H", block, first)[0]
    end = first + 2 + 12 * count
    entry = struct.pack(order + "HHIHH", _ORIENTATION, _SHORT, 1, tag, 0)
    for at in range(first + 2, end, 12):
        if struct.unpack_from(order + "H", block, at)[0] == _ORIENTATION:
            return block[:at] + entry + block[at + 12 :]
    entries = sorted(
        [block[at : at + 12] for at in range(first + 2, end, 12)] + [entry],
        key=lambda e: int(struct.unpack_from(order + "H", e)[0]),
    )
    following = block[end : end + 4]
    block += b"\0" * (len(block) % 2)
    directory = struct.pack(order + "H", count + 1) + b"".join(entries) + following
    return block[:4] + struct.pack(order + "I", len(block)) + block[8:] + directory
