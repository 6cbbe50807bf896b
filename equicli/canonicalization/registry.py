"""Every kind of canonicalizer, by the name that `--canonicalizer` takes. A new one is one file and one line here."""

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.consensus import ConsensusCanonicalizer
from equicli.canonicalization.energy import EnergyCanonicalizer
from equicli.canonicalization.equivariant import EquivariantCanonicalizer
from equicli.canonicalization.optimized import OptimizedCanonicalizer
from equicli.canonicalization.points.base import NoPointCanonicalizer
from equicli.canonicalization.points.frame import PointFrameCanonicalizer
from equicli.canonicalization.points.optimized import PointOptimizedCanonicalizer
from equicli.canonicalization.points.vector_neuron import VectorNeuronCanonicalizer
from equicli.canonicalization.steerable import SteerableCanonicalizer
from equicli.canonicalization.untrained import FrameCanonicalizer, NoCanonicalizer
from equicli.groups import Group

# Of pictures.
REGISTRY: dict[str, type[Canonicalizer]] = {
    "consensus": ConsensusCanonicalizer,
    "optimized": OptimizedCanonicalizer,
    "equivariant": EquivariantCanonicalizer,
    "steerable": SteerableCanonicalizer,
    "energy": EnergyCanonicalizer,
    "frame": FrameCanonicalizer,
    "none": NoCanonicalizer,
}
# Of point clouds.
SPACE: dict[str, type[Canonicalizer]] = {
    "vector-neuron": VectorNeuronCanonicalizer,
    "optimized": PointOptimizedCanonicalizer,
    "frame": PointFrameCanonicalizer,
    "none": NoPointCanonicalizer,
}


def kinds_for(group: Group) -> dict[str, type[Canonicalizer]]:
    """The kinds for what a group acts on: pictures, or of groups of space point clouds."""
    return SPACE if group.dimension == 3 else REGISTRY
