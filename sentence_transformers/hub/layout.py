"""Which files each part of a model needs, as data; whether a folder has them all; which of a listing to download."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from sentence_transformers.errors import ModelFileError, UntrustedCodeError
from sentence_transformers.hub.json_files import read_json, read_json_list
from sentence_transformers.hub.paths import safe_join

LAYOUTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Every way of keeping weights that is understood, best first."""

OWN = "sentence_transformers."
WEIGHTS, TOKENIZER = "weights", "tokenizer"
NEEDS: dict[str, tuple[str, ...]] = {
    "Transformer": ("config.json", WEIGHTS, TOKENIZER),
    "MLMTransformer": ("config.json", WEIGHTS, TOKENIZER),
    "CLIPModel": ("config.json", WEIGHTS, TOKENIZER),
    "StaticEmbedding": (WEIGHTS, TOKENIZER),
    "SparseStaticEmbedding": ("config.json", TOKENIZER),
    "WordEmbeddings": ("wordembedding_config.json", WEIGHTS),
    "WordWeights": ("config.json", WEIGHTS),
    "Dense": ("config.json", WEIGHTS),
    "LayerNorm": ("config.json", WEIGHTS),
    "WeightedLayerPooling": ("config.json", WEIGHTS),
    "SparseAutoEncoder": ("config.json", WEIGHTS),
    "LSTM": ("lstm_config.json", WEIGHTS),
    "CNN": ("cnn_config.json", WEIGHTS),
    "BoW": ("config.json",),
    "Dropout": ("config.json",),
    "Pooling": ("config.json",),
    "SpladePooling": ("config.json",),
    "LogitScore": ("config.json",),
    "MultiVectorMask": ("config.json",),
    "HierarchicalTokenPooling": ("config.json",),
}
"""Module class -> what its folder must hold; a class that is not here needs nothing that is known."""

CONFIGS = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json")
"""Optional files of the root that change the result: whoever fetched a model must have looked for them."""

VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "*.bpe", "*processor_config.json")
NO_VOCABULARY = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizer classes that read bytes or code points, so that their config is all there is."""

WANTED = ("*.json", "*.txt", "*.py", "*.jinja", "*.safetensors", "README.md", "artifact.metadata", *VOCABULARIES)
PICKLES = ("pytorch_model*.bin", "adapter_model.bin")
UNWANTED_FOLDERS = ("onnx", "openvino", "coreml", "original", "checkpoint-*", ".*")
UNWANTED = ("*.fp16.safetensors", "*.bf16.safetensors", "consolidated*.safetensors", "openvino*")


def is_complete(folder: Path, known: Callable[[str], bool] = lambda name: True) -> bool:
    """Whether the folder holds every file that loading its model will read.

    Args:
        known: whether somebody has looked for one of the optional ``CONFIGS`` that is not in the folder; a partial
            copy of a repository cannot tell by itself.
    """
    if not folder.is_dir():
        return False
    present = {name: (folder / name).is_file() or known(name) for name in CONFIGS}
    if not (folder / "modules.json").is_file():
        return present["modules.json"] and _has(folder, NEEDS["Transformer"])
    if not present["config_sentence_transformers.json"]:
        return False
    try:
        modules = read_json_list(folder / "modules.json")
        return all(_part_is_complete(folder, module, present) for module in modules)
    except (ModelFileError, UntrustedCodeError):
        return False


def wanted_files(names: Collection[str], extra_patterns: Sequence[str] = ()) -> list[str]:
    """The files of a repository listing that loading needs: no exports to other frameworks, pickles only where a folder
    has no safetensors, and whatever matches ``extra_patterns`` besides."""
    usual = [name for name in names if _is_usual(name)]
    safe = {PurePosixPath(name).parent for name in usual if name.endswith(".safetensors")}
    pickles = [
        name
        for name in names
        if _matches(PurePosixPath(name).name, PICKLES)
        and PurePosixPath(name).parent not in safe
        and not _is_in_unwanted_folder(name)
    ]
    extra = [name for name in names if _matches(name, extra_patterns)]
    return sorted({*usual, *pickles, *extra})


def has_extra(folder: Path, extra_patterns: Sequence[str]) -> bool:
    """Whether every pattern matches some file of the folder."""
    if not extra_patterns:
        return True
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return all(any(fnmatch(name, pattern) for name in names) for pattern in extra_patterns)


def is_fetched(name: str) -> bool:
    """Whether a whole download brings a file of this name, so that its absence means the model has none."""
    return _is_usual(name) or _matches(PurePosixPath(name).name, (*PICKLES, "*.index.json"))


def has_weights(folder: Path) -> bool:
    """Whether the folder has weights in any known layout, with all shards that an index names."""
    for name in (*LAYOUTS, "adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            return _has_shards(folder, name) if name.endswith(".index.json") else True
    return False


def _part_is_complete(root: Path, module: dict[str, Any], present: dict[str, bool]) -> bool:
    path, reference = str(module.get("path", "")), str(module.get("type", ""))
    class_name = reference.rpartition(".")[2] if reference.startswith(OWN) else ""
    folder = safe_join(root, path)
    if class_name in ("Router", "Asym"):
        return _router_is_complete(folder)
    needs = NEEDS.get(class_name, ())
    if not path and TOKENIZER in needs:
        nested = root / f"0_{class_name}"  # some old saves keep the files of the first module there all the same
        return (present["sentence_bert_config.json"] and _has(folder, needs)) or _has(nested, needs)
    if class_name not in NEEDS and _is_transformer(folder):
        needs = (WEIGHTS,)
    return _has(folder, needs)


def _router_is_complete(folder: Path) -> bool:
    path = folder / "router_config.json"
    config = read_json(path if path.is_file() else folder / "config.json")
    types = config.get("types")
    if not isinstance(types, dict):
        return False
    everything = dict.fromkeys(CONFIGS, True)
    return all(_part_is_complete(folder, {"path": key, "type": types[key]}, everything) for key in types)


def _has(folder: Path, needs: Iterable[str]) -> bool:
    if (folder / "adapter_config.json").is_file():  # everything else is in the repository of its base model
        return has_weights(folder)
    return all(_has_one(folder, need) for need in needs)


def _has_one(folder: Path, need: str) -> bool:
    if need == WEIGHTS:
        return has_weights(folder)
    if need == TOKENIZER:
        return has_tokenizer(folder)
    return (folder / need).is_file()


def has_tokenizer(folder: Path) -> bool:
    if any(path.is_file() for pattern in VOCABULARIES for path in folder.glob(pattern)):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and read_json(config).get("tokenizer_class") in NO_VOCABULARY


def _has_shards(folder: Path, index: str) -> bool:
    weight_map = read_json(folder / index).get("weight_map")
    if not isinstance(weight_map, dict):
        return False
    return all(safe_join(folder, str(name)).is_file() for name in set(weight_map.values()))


def _is_transformer(folder: Path) -> bool:
    path = folder / "config.json"
    return path.is_file() and bool({"model_type", "architectures"} & read_json(path).keys())


def _is_usual(name: str) -> bool:
    base = PurePosixPath(name).name
    return _matches(base, WANTED) and not _matches(base, UNWANTED) and not _is_in_unwanted_folder(name)


def _is_in_unwanted_folder(name: str) -> bool:
    return any(_matches(part, UNWANTED_FOLDERS) for part in PurePosixPath(name).parts[:-1])


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
