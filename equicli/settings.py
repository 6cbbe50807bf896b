from typing import Annotated, Any, Literal
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from equicli.recipes import expand_checkpoint, local_path
Scalar = bool | int | float | str | None
LocalPath = Annotated[str, BeforeValidator(local_path)]
CheckpointPath = Annotated[str, BeforeValidator(expand_checkpoint)]
Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)
class CanonicalizerSettings(Settings):
    kind: str
class TaskSettings(Settings):
    kind: str
class PolicySettings(Settings):
    kind: Literal["one","mean"]="one"
    of: Literal["probabilities","logits"]="probabilities"
