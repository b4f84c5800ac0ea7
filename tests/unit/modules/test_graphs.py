"""Exported graphs against the native engine and the torch modules, on random models of every family and head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_heads
import torch
from torch import nn

from sentence_transformers.backend.graphs.facts import EMBEDDING, IDS, KEY, LOGITS, MASK, STATES, TYPES, Facts
from sentence_transformers.backend.graphs.levels import LEVELS, level_of
from sentence_transformers.backend.native.families import FAMILIES
from sentence_transformers.modules import graph_check
from sentence_transformers.modules.graph_parts import held
from sentence_transformers.modules.graphs import export
from sentence_transformers.modules.linear import Dense, Dropout, LayerNorm, Normalize
from sentence_transformers.modules.pooling import MODES, Pooling
from sentence_transformers.modules.splade import SpladePooling
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.tokens import TokenIds

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

TinyFolder = Callable[[str], Path]
Arrays = dict[str, np.ndarray[Any, Any]]
WIDTH = 32
LENGTHS = (9, 1, 40, 14)
CLASSIFIERS = [name for name, (family, *_) in tiny_heads.CLASSIFIERS.items() if family in FAMILIES]
MASKED = [name for name, (family, *_) in tiny_heads.MASKED.items() if family in FAMILIES]


@pytest.fixture(scope="module")
def transformer(tiny_folder: TinyFolder, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Transformer]:
    """``transformer(name, task="feature-extraction")``: shared by all tests; don't change it."""
    root = tmp_path_factory.mktemp("heads")
    build: dict[str, Callable[[str], Path]] = {
        "feature-extraction": tiny_folder,
        "sequence-classification": lambda name: tiny_heads.build_classifier(name, root / f"c-{name}", labels=3),
        "fill-mask": lambda name: tiny_heads.build_masked(name, root / f"m-{name}"),
        "text-generation": lambda name: tiny.build(name, root / f"g-{name}"),
    }

    @cache
    def make(name: str, task: str = "feature-extraction") -> Transformer:
        return Transformer(str(build[task](name)), transformer_task=task)

    return make


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: Arrays) -> Arrays:
    opened = session(path)
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, inputs), strict=True))


def batch(module: Transformer, lengths: Sequence[int] = LENGTHS, width: int | None = None, fill: int = 0) -> Arrays:
    """Random tokens; padding on the right up to ``width``, of the token ``fill``."""
    random = np.random.default_rng(7)
    spec = module.network().spec  # type: ignore[attr-defined]
    real = np.arange(width or max(lengths))[None] < np.array(lengths)[:, None]
    ids = np.where(real, random.integers(5, spec.vocabulary, real.shape), fill)
    made = {IDS: ids, MASK: real.astype(np.int64)}
    return {**made, TYPES: random.integers(0, 2, real.shape) * real} if module.text.with_types else made


def by_torch(modules: Sequence[nn.Module], inputs: Arrays) -> dict[str, Any]:
    """The features behind the modules, without padding."""
    real = inputs[MASK] == 1
    types = torch.from_numpy(inputs[TYPES][real]) if TYPES in inputs else None
    tokens = TokenIds(torch.from_numpy(inputs[IDS][real]), tuple(real.sum(1).tolist()), types)
    features: dict[str, Any] = {"tokens": tokens}
    with torch.inference_mode():
        for module in modules:
            features = module(features)
    return features


def assert_near(found: np.ndarray[Any, Any], wanted: torch.Tensor, share: float = 1e-5) -> None:
    """Off by at most a share of the largest value, or of 1."""
    assert found.shape == tuple(wanted.shape)
    assert np.abs(found - wanted.numpy()).max() <= share * max(1.0, float(wanted.abs().max()))


# --- families and heads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_hidden_states_of_the_native_engine(
    family: str, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    module = transformer(family)
    assert export([module], tmp_path / "model.onnx") == Facts("feature-extraction")
    inputs = batch(module)
    found = run(tmp_path / "model.onnx", inputs)
    assert list(found) == [STATES]
    assert_near(found[STATES][inputs[MASK] == 1], by_torch([module], inputs)["token_embeddings"].values)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_gives_its_scores(name: str, transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    module = transformer(name, "sequence-classification")
    assert export([module], tmp_path / "model.onnx") == Facts("sequence-classification")
    inputs = batch(module)
    found = run(tmp_path / "model.onnx", inputs)
    assert list(found) == [LOGITS]
    assert_near(found[LOGITS], by_torch([module], inputs)["scores"])


@pytest.mark.parametrize("name", MASKED)
def test_every_masked_language_model_gives_its_logits(
    name: str, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    module = transformer(name, "fill-mask")
    assert export([module], tmp_path / "model.onnx") == Facts("fill-mask")
    inputs = batch(module)
    found = run(tmp_path / "model.onnx", inputs)
    assert list(found) == [LOGITS]
    assert_near(found[LOGITS][inputs[MASK] == 1], by_torch([module], inputs)["token_embeddings"].whole().values)


@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("columns", [4096, 7])
def test_splade_gives_one_weight_for_each_word(
    strategy: str,
    activation: str,
    columns: int,
    transformer: Callable[..., Transformer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sentence_transformers.backend.graphs.heads.COLUMNS", columns)
    modules = [transformer("bert", "fill-mask"), SpladePooling(strategy, activation)]
    facts = export(modules, tmp_path / "model.onnx")
    assert [module.type.rpartition(".")[2] for module in facts.modules] == ["SpladePooling"]
    inputs = batch(transformer("bert", "fill-mask"))
    found = run(tmp_path / "model.onnx", inputs)
    assert list(found) == [EMBEDDING]
    wanted = by_torch(modules, inputs)["sentence_embedding"]
    assert 0 < (wanted > 0).float().mean() < 1
    assert_near(found[EMBEDDING], wanted)


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_a_language_model_gives_the_logits_behind_the_last_token(
    family: str, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    module = transformer(family, "text-generation")
    assert export([module], tmp_path / "model.onnx") == Facts("text-generation")
    inputs = batch(module)
    assert_near(run(tmp_path / "model.onnx", inputs)[LOGITS], by_torch([module], inputs)["causal_logits"][:, 0])


def test_a_classifier_reads_the_last_token_that_is_not_padding_as_the_native_engine_does(
    transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    module = transformer("llama", "sequence-classification")
    export([module], tmp_path / "model.onnx")
    inputs = batch(module)
    padding = module.pretrained.config["pad_token_id"]
    inputs[IDS][0, 7:9] = inputs[IDS][3, 13] = padding  # texts that end in the padding token
    assert_near(run(tmp_path / "model.onnx", inputs)[LOGITS], by_torch([module], inputs)["scores"])


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_a_padding_token_within_a_text_takes_no_place(
    family: str, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    module = transformer(family)
    export([module], tmp_path / "model.onnx")
    inputs = batch(module)
    inputs[IDS][:, 3] = module.network().spec.padding_id  # type: ignore[attr-defined]
    found = run(tmp_path / "model.onnx", inputs)[STATES]
    assert_near(found[inputs[MASK] == 1], by_torch([module], inputs)["token_embeddings"].values)


# --- any batch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "modernbert", "mistral"])
def test_padding_and_what_it_holds_change_nothing(
    family: str, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    module = transformer(family)
    export([module, Pooling(WIDTH, list(MODES))], tmp_path / "model.onnx")
    alone = run(tmp_path / "model.onnx", batch(module, [6]))[EMBEDDING]
    for fill in (0, 11):
        inputs = batch(module, [6], width=30, fill=fill)
        inputs[IDS][0, :6] = batch(module, [6])[IDS][0]
        if TYPES in inputs:
            inputs[TYPES][0, :6] = batch(module, [6])[TYPES][0]
        assert np.abs(run(tmp_path / "model.onnx", inputs)[EMBEDDING] - alone).max() < 1e-5


def test_batch_and_length_vary(transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    module = transformer("bert")
    export([module], tmp_path / "model.onnx")
    opened = session(tmp_path / "model.onnx")
    assert [(node.name, node.shape) for node in opened.get_inputs()] == [
        (name, ["batch_size", "sequence_length"]) for name in (IDS, MASK, TYPES)
    ]
    for lengths in ([1], [64], [2, 3], [5] * 9):
        states = opened.run([STATES], batch(module, lengths))[0]
        assert states.shape == (len(lengths), max(lengths), WIDTH)


# --- the modules behind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modes", [*MODES, tuple(MODES)])
def test_every_pooling_mode(modes: Any, transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    modules = [transformer("bert"), Pooling(WIDTH, modes)]
    facts = export(modules, tmp_path / "model.onnx")
    assert facts.modules == (held(modules[1]),)
    inputs = batch(transformer("bert"))
    found = run(tmp_path / "model.onnx", inputs)
    assert list(found) == [STATES, EMBEDDING]
    assert_near(found[EMBEDDING], by_torch(modules, inputs)["sentence_embedding"])


def dense(*args: Any, **kwargs: Any) -> Dense:
    torch.manual_seed(3)
    return Dense(*args, **kwargs)


@pytest.mark.parametrize(
    "behind",
    [
        [dense(WIDTH, 12), Normalize()],
        [dense(WIDTH, 12, bias=False, activation_function=None)],
        [dense(WIDTH, WIDTH, use_residual=True, activation_function=nn.GELU()), LayerNorm(WIDTH)],
        [dense(WIDTH, 8, use_residual=True, activation_function=nn.GELU("tanh")), Dropout(0.3)],
        [dense(WIDTH, 8, activation_function=nn.ReLU()), dense(8, 4, activation_function=nn.Sigmoid())],
        [dense(WIDTH, 8, activation_function=nn.SiLU())],
    ],
    ids=lambda modules: "-".join(type(module).__name__ for module in modules),
)
def test_what_stands_behind_the_pooling_is_drawn(
    behind: list[nn.Module], transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    modules = [transformer("bert"), Pooling(WIDTH), *[module.eval() for module in behind]]
    facts = export(modules, tmp_path / "model.onnx")
    assert len(facts.modules) == len(modules) - 1
    inputs = batch(transformer("bert"))
    assert_near(run(tmp_path / "model.onnx", inputs)[EMBEDDING], by_torch(modules, inputs)["sentence_embedding"])


def test_a_dense_on_tokens_before_the_pooling_leaves_the_hidden_states_alone(
    transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    tokens = dense(WIDTH, 12, module_input_name="token_embeddings")
    modules = [transformer("bert"), tokens, Normalize("token_embeddings"), Pooling(12)]
    assert len(export(modules, tmp_path / "model.onnx").modules) == 3
    inputs = batch(transformer("bert"))
    found = run(tmp_path / "model.onnx", inputs)
    assert_near(found[STATES][inputs[MASK] == 1], by_torch(modules[:1], inputs)["token_embeddings"].values)
    assert_near(found[EMBEDDING], by_torch(modules, inputs)["sentence_embedding"])


def test_tokens_alone_are_not_held(transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    modules = [transformer("bert"), dense(WIDTH, 12, module_input_name="token_embeddings")]
    assert export(modules, tmp_path / "model.onnx").modules == ()
    assert list(run(tmp_path / "model.onnx", batch(transformer("bert")))) == [STATES]


class OwnNormalize(Normalize):
    """A class that is not in the table."""


def hooked() -> Normalize:
    module = Normalize()
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    "ending",
    [
        OwnNormalize(),
        hooked(),
        dense(WIDTH, 4, activation_function=nn.Softplus()),
        dense(WIDTH, 1, module_output_name="scores"),
    ],
    ids=["another class", "hooked", "activation", "scores"],
)
def test_what_cannot_be_drawn_ends_the_graph(
    ending: nn.Module, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    modules = [transformer("bert"), Pooling(WIDTH), ending, Normalize()]
    assert len(export(modules, tmp_path / "model.onnx").modules) == 1


def test_a_pooling_without_the_prompt_is_left_to_torch(transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    modules = [transformer("bert"), Pooling(WIDTH, include_prompt=False)]
    assert export(modules, tmp_path / "model.onnx").modules == ()


def test_the_facts_are_in_the_file(transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    facts = export([transformer("bert"), Pooling(WIDTH, ["mean", "max"]), dense(2 * WIDTH, 4)], tmp_path / "model.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert Facts.from_json(metadata[KEY]) == facts


def test_held_tells_modules_apart_by_their_config_and_their_weights() -> None:
    one = dense(4, 4)
    same, wider, other = copy.deepcopy(one), dense(4, 5), copy.deepcopy(one)
    other.linear.weight.data[0, 0] += 1e-3
    assert held(one) == held(same)
    assert held(one) != held(wider)
    assert held(one) != held(other)
    assert held(one).digest == held(copy.deepcopy(one).double()).digest


# --- levels, types, runtimes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "share"), [("O1", 1e-5), ("O2", 1e-5), ("O3", 2e-3), ("O4", 2e-2)])
@pytest.mark.parametrize("family", ["bert", "electra", "modernbert", "qwen3"])
def test_every_level_is_near_the_native_engine(
    level: str, share: float, family: str, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    modules = [transformer(family), Pooling(WIDTH), Normalize()]
    export(modules, tmp_path / "model.onnx", level)
    inputs = batch(transformer(family))
    found = run(tmp_path / "model.onnx", inputs)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    assert_near(found[EMBEDDING], by_torch(modules, inputs)["sentence_embedding"], share)


def operators(path: Path) -> set[str]:
    return {f"{node.domain}:{node.op_type}".lstrip(":") for node in onnx.load(path).graph.node}


def test_the_levels_differ_in_their_operators(transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    own = {}
    for level in (None, "O1", "O2", "O3", "O4"):
        export([transformer("bert")], tmp_path / "model.onnx", level)
        own[level] = {name.partition(":")[2] for name in operators(tmp_path / "model.onnx") if ":" in name}
    assert own[None] == own["O1"] == set()
    assert own["O2"] == {"BiasGelu"}
    assert own["O3"] == {"FastGelu"}
    assert own["O4"] == {"FastGelu", "MultiHeadAttention", "SkipLayerNormalization"}


def test_o4_halves_the_file(transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    for level in ("O3", "O4"):
        export([transformer("bert")], tmp_path / f"{level}.onnx", level)
    types = {value.data_type for value in onnx.load(tmp_path / "O4.onnx").graph.initializer if value.dims}
    assert onnx.TensorProto.FLOAT not in types
    assert (tmp_path / "O4.onnx").stat().st_size < 0.7 * (tmp_path / "O3.onnx").stat().st_size


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_in_half_precision_is_exported_in_float32(dtype: str, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    module = Transformer(str(tiny_folder("bert")), model_kwargs={"dtype": dtype})
    pooling = dense(WIDTH, 4).to(getattr(torch, dtype))
    export([module, Pooling(WIDTH), pooling], tmp_path / "model.onnx")
    wide = [
        Transformer(str(tiny_folder("bert")), model_kwargs={"dtype": dtype}),
        Pooling(WIDTH),
        copy.deepcopy(pooling),
    ]
    wide = [part.float() for part in wide]
    inputs = batch(module)
    assert_near(run(tmp_path / "model.onnx", inputs)[EMBEDDING], by_torch(wide, inputs)["sentence_embedding"])


def test_a_transformer_whose_model_was_built_is_exported_with_its_weights_of_now(
    tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    module = Transformer(str(tiny_folder("bert")))
    module.auto_model.embeddings.word_embeddings.weight.data.mul_(1.5)
    export([module.eval()], tmp_path / "model.onnx")
    inputs = batch(module)
    found = run(tmp_path / "model.onnx", inputs)[STATES][inputs[MASK] == 1]
    assert_near(found, by_torch([module], inputs)["token_embeddings"].values)


@pytest.mark.parametrize(
    ("name", "task"),
    [(family, "feature-extraction") for family in ("bert", "roberta", "mpnet", "modernbert", "qwen3", "mistral")]
    + [("modernbert-mean", "sequence-classification"), ("qwen3", "sequence-classification"), ("bert", "fill-mask")],
)
def test_openvino_reads_the_same_file(
    name: str, task: str, transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
    module = transformer(name, task)
    behind = {"feature-extraction": Pooling(WIDTH, list(MODES)), "fill-mask": SpladePooling("sum")}.get(task)
    modules = [module, behind] if behind is not None else [module]
    export(modules, tmp_path / "model.onnx")
    compiled = openvino.compile_model(str(tmp_path / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs, (written, output) = (
        batch(module),
        ("scores", LOGITS) if behind is None else ("sentence_embedding", EMBEDDING),
    )
    assert_near(compiled(inputs)[output], by_torch(modules, inputs)[written])


def test_the_check_falls_back_on_openvino(
    transformer: Callable[..., Transformer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setattr(graph_check, "find_spec", lambda name: None if name == "onnxruntime" else object())
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    export([transformer("bert"), Pooling(WIDTH)], tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").is_file()


# --- refusals --------------------------------------------------------------------------------------------------------


def test_another_architecture_is_refused_with_the_families(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bert, roberta.*got model_type 'albert'.*onnx/model.onnx"):
        export([Transformer(str(tiny_folder("albert")))], tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("modules", [[], [Pooling(WIDTH)]], ids=["nothing", "no transformer"])
def test_only_a_transformer_can_begin_a_graph(modules: list[nn.Module], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Only a Transformer"):
        export(modules, tmp_path / "model.onnx")


def test_a_hooked_transformer_is_refused(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    for place in ("outside", "inside"):
        module = Transformer(str(tiny_folder("bert")))
        hooked = module if place == "outside" else module.auto_model.encoder
        hooked.register_forward_hook(lambda *_: None)
        with pytest.raises(ValueError, match="hooks"):
            export([module], tmp_path / "model.onnx")


def test_an_unknown_level_is_refused(transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'O1', 'O2', 'O3', 'O4'; got 'O5'"):
        export([transformer("bert")], tmp_path / "model.onnx", "O5")


def test_a_graph_that_is_off_is_not_written(
    transformer: Callable[..., Transformer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"as before")
    monkeypatch.setattr("sentence_transformers.modules.graph_parts.TINY", 2.0)  # a pooling that divides by too much
    with pytest.raises(ValueError, match="another sentence_embedding than torch: off by"):
        export([transformer("bert"), Pooling(WIDTH, "mean_sqrt_len_tokens")], tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"as before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_failure_while_writing_leaves_what_was_there(
    transformer: Callable[..., Transformer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Any, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    (tmp_path / "model.onnx").write_bytes(b"as before")
    monkeypatch.setattr(onnx, "save_model", fail)
    with pytest.raises(OSError, match="No space left"):
        export([transformer("bert")], tmp_path / "model.onnx")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"model.onnx": b"as before"}


def test_large_weights_stand_beside_the_graph(
    transformer: Callable[..., Transformer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentence_transformers.backend.graphs.builder.EXTERNAL_FROM", 1000)
    export([transformer("bert")], tmp_path / "large.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.onnx", "large.onnx_data"]
    inputs = batch(transformer("bert"))
    found = run(tmp_path / "large.onnx", inputs)[STATES][inputs[MASK] == 1]
    assert_near(found, by_torch([transformer("bert")], inputs)["token_embeddings"].values)


def test_an_object_says_the_level_by_its_fields() -> None:
    config = SimpleNamespace(optimization_level=2, enable_gelu_approximation=True, fp16=True, optimize_for_gpu=True)
    assert level_of(config) == LEVELS["O4"]
    assert level_of(SimpleNamespace(optimization_level=1)) == LEVELS["O1"]
    kept = SimpleNamespace(optimization_level=99, optimize_for_gpu=True, disable_attention_fusion=True)
    assert level_of(kept) == LEVELS["O2"]
