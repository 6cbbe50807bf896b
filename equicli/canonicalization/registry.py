"""Every kind of canonicalizer, by the name that `--canonicalizer` takes. A new one is one file and one line here."""

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.consensus import ConsensusCanonicalizer
from equicli.canonicalization.energy import EnergyCanonicalizer
from equicli.canonicalization.equivariant import EquivariantCanonicalizer
from equicli.canonicalization.optimized import OptimizedCanonicalizer
from equicli.canonicalization.steerable import SteerableCanonicalizer
from equicli.canonicalization.untrained import FrameCanonicalizer, NoCanonicalizer

REGISTRY: dict[str, type[Canonicalizer]] = {
    "consensus": ConsensusCanonicalizer,
    "optimized": OptimizedCanonicalizer,
    "equivariant": EquivariantCanonicalizer,
    "steerable": SteerableCanonicalizer,
    "energy": EnergyCanonicalizer,
    "frame": FrameCanonicalizer,
    "none": NoCanonicalizer,
}
