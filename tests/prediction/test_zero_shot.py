"""Zero-shot networks: prompts become classes as transformers itself has it, from folders and from a Hub."""

import io
import json
import string
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from PIL import Image
from safetensors.torch import load, save
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import equicli
from equicli.config import build_config
from equicli.errors import EquicliError, UsageError
from equicli.prediction.load import load_network
from equicli.prediction.prompts import class_prompts
from equicli.prediction.zero_shot import TwoTowers
from equicli.progress import Silent
from equicli.runs import Run
from equicli.training.adapt import train_canonicalizer

_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
_VISION = {**_TOWER, "image_size": 32, "patch_size": 8}
KINDS = ("CLIP", "Siglip")
CLASSES = ("a small cat", "dog")


@cache
def published(kind: str, tokenizer: str = "own") -> dict[str, bytes]:
    """A repository's files with random weights; SigLIP's tokenizer as `own` (sentencepiece) or as `json`."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "CLIP":
            letters = string.ascii_lowercase + string.digits + string.punctuation
            words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
            made = transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
            made.save_pretrained(folder)
            tokens = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
            text = {**_TOWER, "vocab_size": len(words), "max_position_embeddings": 40, **tokens}
            config = transformers.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=12)
        else:
            _write_siglip_tokenizer(folder, tokenizer)
            text = {**_TOWER, "vocab_size": 60, "max_position_embeddings": 24, "bos_token_id": 0, "eos_token_id": 1}
            config = transformers.SiglipConfig(text_config=text, vision_config=_VISION)
        network = getattr(transformers, f"{kind}Model")(config)
        for parameter in network.parameters():  # initialized so small that all images would look alike
            parameter.data += 0.2 * torch.randn(parameter.shape)
        network.save_pretrained(folder)
        getattr(transformers, f"{kind}ImageProcessor")(
            size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
        ).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _write_siglip_tokenizer(folder: Path, how: str) -> None:
    words = [f"this is a photo of {c} {a}{b}" for c in CLASSES for a in string.ascii_lowercase for b in "aeiou"]
    options = {"vocab_size": 60, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(words), model_writer=model, **options)
    if how == "own":
        (folder / "spiece.model").write_bytes(model.getvalue())
        return
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocabulary = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(60)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "</s>"}}))


def folder_of(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def images(side: int = 32) -> torch.Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def theirs(kind: str, folder: Path, prompts: list[str], x: torch.Tensor) -> torch.Tensor:
    """The logits (images, prompts) that transformers itself gives."""
    network = getattr(transformers, f"{kind}Model").from_pretrained(folder).eval()
    if kind == "CLIP":
        text = transformers.CLIPTokenizer.from_pretrained(folder)(prompts, padding=True, return_tensors="pt")
    else:
        tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"))
        text = tokenizer(prompts, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
        text = {"input_ids": text["input_ids"]}  # SigLIP was trained without a mask: it sees the padding
    options = {} if x.shape[-1] == 32 else {"interpolate_pos_encoding": True}
    with torch.inference_mode():
        return network(pixel_values=x, **text, **options).logits_per_image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [32, 48])
def test_logits_are_those_that_transformers_gives(kind: str, side: int, tmp_path: Path) -> None:
    folder = folder_of(published(kind), tmp_path / "tiny")
    found = load_network(f"transformers:{folder}")
    assert isinstance(found.network, TwoTowers)
    prompts = [found.network.template.replace("{}", name) for name in CLASSES]
    expected = theirs(kind, folder, prompts, images(side))
    with torch.inference_mode():
        logits = found.network.classify([[text] for text in prompts])(images(side))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert expected.std(dim=0).min() > 1e-2 and (expected[:, 0] - expected[:, 1]).abs().min() > 1e-3
    assert found.preprocess.size == 32 and found.class_names is None


def test_of_several_prompts_the_unit_vectors_are_averaged(tmp_path: Path) -> None:
    towers = load_network(f"transformers:{folder_of(published('CLIP'), tmp_path / 'tiny')}").network
    one, other = (towers.classify([[text]]).classifier.weight for text in ("a cat", "some dog"))
    both = towers.classify([["a cat", "some dog"]]).classifier.weight
    scale = towers.logit_scale.exp()
    torch.testing.assert_close(both, scale * torch.nn.functional.normalize(one + other, dim=-1))
    assert not torch.allclose(one, other)


def test_siglips_vocabulary_is_also_read_from_tokenizer_json_and_padded_to_full_length(tmp_path: Path) -> None:
    towers = load_network(f"transformers:{folder_of(published('Siglip', 'json'), tmp_path / 'tiny')}").network
    tokens = towers.tokenize("This is a Photo of DOG")
    assert len(tokens) == 24 and tokens[-1] == 1 and tokens == towers.tokenize("this is a photo of dog")
    assert 2 not in tokens  # nothing unknown


def picture_folder(root: Path, names: tuple[str, ...]) -> Path:
    generator = torch.Generator().manual_seed(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(10):
            pixels = torch.randint(0, 255, (8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).resize((32, 32)).save(root / name / f"{i}.png")
    return root


def adapt_to(model: str, data: Path, run: Path, **flags: Any) -> Any:
    run.mkdir()
    few = ["epochs=1", "canonicalizer={size: 16, width: 4}"]
    config = build_config({"data": str(data), "model": model, "group": "c4", **flags}, few, None)
    return train_canonicalizer(config, Run(run), Silent())


@pytest.mark.parametrize("kind", KINDS)
def test_from_the_hub_to_a_file_with_class_folders_as_prompts(kind: str, hub, tmp_path: Path) -> None:
    server = hub({"acme/tiny": {"main": published(kind)}})
    data = picture_folder(tmp_path / "data", ("a_small_cat", "dog"))
    adapted = adapt_to("acme/tiny", data, tmp_path / "run")
    assert adapted.config.labels == {"a_small_cat": 0, "dog": 1}
    template = load_network("acme/tiny").network.template
    assert adapted.config.provenance["prompts"] == template
    assert adapted.config.provenance["revision"] == server.commit("acme/tiny", "main")

    loaded = equicli.load(tmp_path / "run")
    folder = folder_of(published(kind), tmp_path / "theirs")
    x = images()
    with torch.inference_mode():
        expected = theirs(kind, folder, [template.replace("{}", name) for name in CLASSES], loaded.canonicalize(x))
        torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-5)
    weights, stored = load(published(kind)["model.safetensors"]), loaded.prediction_network.state_dict()
    shared = [key for key in weights if key.startswith(("vision_model.", "visual_projection."))]
    assert len(shared) > 20 and all(torch.equal(stored[key], weights[key]) for key in shared)
    assert not [key for key in stored if "text" in key]

    equicli.artifact.write_artifact(tmp_path / "adapter.safetensors", adapted.model, adapted.config, adapter_only=True)
    again = equicli.load(tmp_path / "adapter.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(x), loaded(x))


def test_a_folder_on_disk_makes_an_adapter_that_asks_for_its_file(tmp_path: Path) -> None:
    model = folder_of(published("CLIP"), tmp_path / "tiny")
    data = picture_folder(tmp_path / "data", ("cat", "dog"))
    adapted = adapt_to(f"transformers:{model}", data, tmp_path / "run")
    path = tmp_path / "adapter.safetensors"
    equicli.artifact.write_artifact(path, adapted.model, adapted.config, adapter_only=True)
    again = equicli.load(path, checkpoint=model / "model.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(images()), equicli.load(tmp_path / "run")(images()))


def test_a_checkpoint_of_the_users_own_embeds_the_prompts_too(tmp_path: Path) -> None:
    folder = folder_of(published("CLIP"), tmp_path / "tiny")
    own = tmp_path / "own.safetensors"
    own.write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    towers = load_network(f"transformers:{folder}", checkpoint=str(own)).network
    expected = theirs("CLIP", folder_of(published("CLIP"), tmp_path / "whole"), ["a cat"], images())
    with torch.inference_mode():
        torch.testing.assert_close(towers.classify([["a cat"]])(images()), expected, rtol=1e-5, atol=1e-5)


def test_images_without_classes_want_prompts_that_name_them(tmp_path: Path) -> None:
    model = f"transformers:{folder_of(published('CLIP'), tmp_path / 'tiny')}"
    data = picture_folder(tmp_path, ("data",)) / "data"
    with pytest.raises(UsageError, match=r"wants classes.*--prompts FILE\.yaml"):
        adapt_to(model, data, tmp_path / "refused")
    (tmp_path / "mine.yaml").write_text("cat: a cat\ndog: [a dog, some dogs]\n")
    adapted = adapt_to(model, data, tmp_path / "run", prompts=str(tmp_path / "mine.yaml"))
    assert adapted.config.labels == {"cat": 0, "dog": 1} and adapted.config.prediction_network.head_outputs == 2
    assert adapted.config.provenance["prompts"] == "mine.yaml"


def test_templates_take_each_class_in_words() -> None:
    prompts, origin = class_prompts(None, ("n01440764", "big_dog"), "a photo of a {}.")
    assert prompts == {"n01440764": ("a photo of a tench.",), "big_dog": ("a photo of a big dog.",)}
    assert origin == "a photo of a {}."


def test_a_text_file_has_a_template_a_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a {} from above\n\n  an aerial photo of a {}\n")
    prompts, origin = class_prompts(str(tmp_path / "t.txt"), ("car",), "unused {}")
    assert prompts == {"car": ("a car from above", "an aerial photo of a car")}
    assert origin == "a {} from above | an aerial photo of a {}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "no braces\n", "'no braces' has none"),
        ("p.txt", "\n", "the file is empty"),
        ("p.txt", None, "cannot be read"),
        ("p.yaml", None, "cannot be read"),
        ("p.yaml", "- a\n", "wants a mapping"),
        ("p.yaml", "{cat: 3}\n", "'cat' wants a prompt"),
        ("p.yaml", "{cat: []}\n", "'cat' wants a prompt"),
        ("p.yaml", "{cat: a, dogg: b}\n", "no prompt for class folder 'dog'. Did you mean 'dogg'?"),
    ],
)
def test_prompts_that_cannot_be_meant_are_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as refused:
        class_prompts(str(tmp_path / name), ("cat", "dog"), "{}")
    assert str(refused.value).startswith(f"--prompts {tmp_path / name}: ") and message in str(refused.value)


def test_prompts_are_refused_for_networks_with_classes_of_their_own(tmp_path: Path) -> None:
    data = picture_folder(tmp_path / "data", ("cat", "dog"))
    (tmp_path / "p.txt").write_text("a {}\n")
    flags = {"prompts": str(tmp_path / "p.txt")}
    with pytest.raises(UsageError, match=r"--prompts: .* takes no prompts"):
        adapt_to("python:torch.nn:Identity", data, tmp_path / "run", **flags)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("CLIP", {"tokenizer.json": None}, "no tokenizer.json"),
        ("CLIP", {"tokenizer.json": b"{"}, "its tokenizer.json cannot be read"),
        ("Siglip", {"spiece.model": b"nonsense"}, "its spiece.model cannot be read"),
        ("Siglip", {"spiece.model": None}, "no tokenizer.json"),
        ("CLIP", {"model.safetensors": None}, "no model.safetensors or pytorch_model.bin"),
    ],
)
def test_damaged_repositories_are_one_clear_line(kind: str, change: Any, message: str, tmp_path: Path) -> None:
    files = {key: value for key, value in (published(kind) | change).items() if value is not None}
    with pytest.raises(EquicliError) as refused:
        load_network(f"transformers:{folder_of(files, tmp_path / 'tiny')}")
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_tokenizer_of_another_network_is_told(tmp_path: Path) -> None:
    files = dict(published("CLIP"))
    config = json.loads(files["config.json"])
    config["text_config"]["vocab_size"] = 4
    weights = load(files["model.safetensors"])
    weights["text_model.embeddings.token_embedding.weight"] = torch.randn(4, 16)
    files |= {"config.json": json.dumps(config).encode(), "model.safetensors": save(weights, {"format": "pt"})}
    towers = load_network(f"transformers:{folder_of(files, tmp_path / 'tiny')}").network
    with pytest.raises(EquicliError, match="--prompts: the text tower does not take 'a cat'"):
        towers.classify([["a cat"]])
