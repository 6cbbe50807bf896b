"""Which poses the prediction network expects, relative to the poses of the training folder."""

from equicli.groups import PlanarGroup


def upright_poses(group: PlanarGroup) -> tuple[int, ...]:
    """The set prior of an upright training folder: the identity, and with reflections also the mirrored identity.

    Handedness is mostly unknowable in a photo: a mirrored picture is as good a picture.
    """
    return (0, group.n) if group.reflections else (0,)
