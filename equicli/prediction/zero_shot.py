"""Zero-shot classifiers of CLIP's and SigLIP's kind: the classes are prompts, embedded by a text tower.

The text tower is used once, to embed the prompts. What it gives becomes the last layer of a network of images alone,
which is what is adapted and stored.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.published_files import PublishedFiles, build_published, read_json
from equicli.prediction.transformers_library import description, quiet, transformers, translate
from equicli.prediction.transformers_preprocess import find_preprocess

# By the class in transformers: the prompt that each was trained or is documented with.
PROMPTS = {"CLIPModel": "a photo of a {}.", "SiglipModel": "This is a photo of {}."}

# In place of a text tower that is not needed.
_TINY = {"hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 4}
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_SENTENCEPIECE, _TOKENIZER, _TOKENIZER_CONFIG = "spiece.model", "tokenizer.json", "tokenizer_config.json"

Tokenize = Callable[[str], Sequence[int]]


def load(files: PublishedFiles, published: Mapping[str, Any], request: NetworkRequest) -> PretrainedNetwork:
    """Load both towers; `TwoTowers.classify` makes a classifier of them."""
    architecture = published["architectures"][0]
    vision = published.get("vision_config") or {}
    text = published.get("text_config") or {}
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise EquicliError(f"{files.name}: its config.json makes no sense (vision_config or text_config).")
    arguments: dict[str, Any] = {"vision_config": description(vision)}
    if "projection_dim" in published:
        arguments["projection_dim"] = published["projection_dim"]
    if any(arguments.get(key) != value for key, value in request.arguments.items()):
        raise UsageError("--model-arg: a zero-shot network takes none; --prompts says what its classes are.")
    tokens = {key: text[key] for key in _TOKENS if isinstance(text.get(key), int)}
    words = {**description(text), **tokens}
    towers, provenance = build_published(files, request, lambda: TwoTowers(_build(architecture, arguments, words)))
    towers.tokenize = _tokenizer(architecture, files, towers.config.text_config.max_position_embeddings)
    preprocess, remarks = find_preprocess(files, towers.config, request.image_size)
    spec = NetworkSpec("transformers", architecture, arguments)
    return PretrainedNetwork(towers.eval(), spec, preprocess, None, provenance, remarks)


def create(architecture: str, arguments: Mapping[str, Any]) -> "ZeroShotNetwork":
    """Build the image tower with untrained weights and one class; see `replace_head`."""
    return ZeroShotNetwork(_build(architecture, arguments, _TINY))


def _build(architecture: str, arguments: Mapping[str, Any], text: Mapping[str, Any]) -> Any:
    kind = getattr(transformers(), architecture)
    unknown = sorted(set(arguments) - {"vision_config", "projection_dim"})
    if unknown:
        raise EquicliError(f"{architecture} takes no argument '{unknown[0]}'.")
    try:
        with quiet():
            return kind(kind.config_class(text_config=dict(text), **copy.deepcopy(dict(arguments)))).eval()
    except Exception as error:  # constructors fail in any way
        raise EquicliError(f"{architecture}: transformers cannot build it ({reason(error)}).") from error


class TwoTowers(nn.Module):
    """Image and text tower as they are published, with the same names of parameters."""

    def __init__(self, published: Any) -> None:
        """
        Args:
            published: a `CLIPModel` or `SiglipModel`.
        """
        super().__init__()
        self.kind, self.config = type(published), published.config
        for name, child in published.named_children():
            self.add_module(name, child)
        for name, parameter in published.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.tokenize: Tokenize | None = None

    @property
    def template(self) -> str:
        """The prompt where none is given; `{}` stands for the class."""
        return PROMPTS[self.kind.__name__]

    def own_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a published state dict to the names of this network's own."""
        return translate(self.kind, self.config, weights)

    def classify(self, prompts: Sequence[Sequence[str]]) -> "ZeroShotNetwork":
        """Make a classifier of images whose classes are these.

        Args:
            prompts: for each class one or more texts, whose embeddings are averaged (Radford et al., arXiv 2103.00020).

        Raises:
            EquicliError: the text tower does not take them.
        """
        with torch.no_grad():
            rows = torch.stack(
                [_unit(torch.cat([self._embed(text) for text in texts]).mean(dim=0)) for texts in prompts]
            )
            bias = getattr(self, "logit_bias", torch.zeros(1)).expand(len(rows))
            scale = self.get_parameter("logit_scale").exp()
            network = self.image_tower(len(rows))
            network.classifier.weight.copy_(scale * rows)
            network.classifier.bias.copy_(bias)
        return network.eval()

    def image_tower(self, outputs: int = 1) -> "ZeroShotNetwork":
        """The network of images alone, with a last layer that knows nothing yet."""
        return ZeroShotNetwork(self, outputs)

    def _embed(self, text: str) -> Tensor:
        """The unit vector (1, d) of a text."""
        assert self.tokenize is not None
        try:
            tokens = torch.tensor([self.tokenize(text)])
            pooled = self.get_submodule("text_model")(input_ids=tokens).pooler_output
        except Exception as error:  # a tokenizer of another network
            raise EquicliError(f"--prompts: the text tower does not take '{text}' ({reason(error)}).") from error
        project = getattr(self, "text_projection", nn.Identity())
        return _unit(project(pooled).float())


class ZeroShotNetwork(nn.Module):
    """Logits scale · cos(image, prompt of each class) + bias: a linear layer behind normalized image features."""

    def __init__(self, towers: Any, outputs: int = 1) -> None:
        super().__init__()
        self.kind, self.config = getattr(towers, "kind", type(towers)), towers.config
        self.vision_model: nn.Module = towers.vision_model
        self.visual_projection: nn.Module = getattr(towers, "visual_projection", nn.Identity())
        vision = self.config.vision_config
        projected = isinstance(self.visual_projection, nn.Linear)
        self.classifier = nn.Linear(self.config.projection_dim if projected else vision.hidden_size, outputs)
        self._native_size = vision.image_size

    def forward(self, images: Tensor) -> Tensor:
        """From images (b, 3, h, w) to logits (b, classes)."""
        options = {} if images.shape[-1] == self._native_size else {"interpolate_pos_encoding": True}
        pooled = self.vision_model(pixel_values=images, **options).pooler_output
        logits: Tensor = self.classifier(_unit(self.visual_projection(pooled)))
        return logits

    def own_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a file of both towers, what belongs to images; the last layer, which no file has, stays as it is."""
        own = {key: value for key, value in self.state_dict().items() if key.startswith("classifier.")}
        images = ("vision_model.", "visual_projection.")
        translated = translate(self.kind, self.config, weights)
        return own | {key: value for key, value in translated.items() if key.startswith(images)}


def _unit(features: Tensor) -> Tensor:
    return functional.normalize(features, dim=-1)


def _tokenizer(architecture: str, files: PublishedFiles, length: int) -> Tokenize:
    """From a text to the tokens that the text tower takes; only vocabularies are read."""
    if architecture == "SiglipModel" and (path := files.find((_SENTENCEPIECE,))) is not None:
        try:
            with quiet():
                sentencepiece = transformers().SiglipTokenizer(str(path))
        except ImportError as error:
            raise UsageError(
                f"{files.name}: its prompts need sentencepiece ({reason(error)}). Install it: "
                "pip install 'equicli[transformers]'"
            ) from error
        except Exception as error:
            raise EquicliError(f"{files.name}: its {_SENTENCEPIECE} cannot be read ({reason(error)}).") from error
        options = {"padding": "max_length", "truncation": True, "max_length": length}
        return lambda text: list(sentencepiece(text, **options)["input_ids"])
    from tokenizers import Tokenizer  # comes with transformers

    path = files.get((_TOKENIZER,))
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise EquicliError(f"{files.name}: its {_TOKENIZER} cannot be read ({reason(error)}).") from error
    tokenizer.enable_truncation(length)
    tokenizer.no_padding()
    if architecture == "CLIPModel":  # looks at the tokens up to the end of the text only
        return lambda text: list(tokenizer.encode(text).ids)
    # SigLIP was trained on lower case, padded to full length.
    found = files.get((_TOKENIZER_CONFIG,))
    pad: Any = read_json(found, f"{files.name}: {found.name}").get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    number = tokenizer.token_to_id(pad) if isinstance(pad, str) else None
    if number is None:
        raise EquicliError(f"{files.name}: its {_TOKENIZER_CONFIG} names no pad_token of its vocabulary.")
    tokenizer.enable_padding(length=length, pad_id=number, pad_token=pad)
    return lambda text: list(tokenizer.encode(text.lower()).ids)
