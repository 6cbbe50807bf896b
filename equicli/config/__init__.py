"""The typed configuration of `equicli adapt`: a flag wins over `--set`, that over the recipe, that over the default.

`merge` lays what people wrote one over the other, and `resolve` fills in, checks and types what results.
"""

from equicli.config.adapt import AdaptConfig as AdaptConfig
from equicli.config.code import MODEL as MODEL
from equicli.config.code import names_code as names_code
from equicli.config.code import refuse_code as refuse_code
from equicli.config.resolve import build_config as build_config
from equicli.config.resolve import resolve as resolve
