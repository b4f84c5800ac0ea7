"""What ``CrossEncoder.predict`` gives: every form of input and output, on one score and on three labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_heads
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sentence_transformers import CrossEncoder
from sentence_transformers.modules.processing import TextProcessor

PAIRS = [
    ("the cat sat", "a dog sat by the door"),
    ("who?", ""),
    ("a long river", "runs from the high mountains down to the sea"),
    ("", "only the second"),
    ("x", "on the mat"),
]
PAIR = PAIRS[0]
LONG = [("the cat " * 60, "the dog"), ("the cat", "the dog " * 60), ("the cat " * 60, "a dog sat " * 60), PAIR]
RAW = torch.nn.Identity()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier of one label; don't write."""
    return tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def one(folder: Path) -> CrossEncoder:
    """One label; don't change it."""
    return CrossEncoder(str(folder), device="cpu", prompts={"find": "find this: "})


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """Three labels; don't change it."""
    return CrossEncoder(str(tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("three"), 3)), device="cpu")


@cache
def parts_of(folder: Path) -> tuple[Any, Any]:
    """transformers' own model in float64, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    return model, AutoTokenizer.from_pretrained(folder)


def slow_logits(model: CrossEncoder, pairs: Sequence[Any], truncation: str = "longest_first") -> np.ndarray[Any, Any]:
    """(n, labels) float64: one pair at a time."""
    network, tokenizer = parts_of(model[0].pretrained.folder)
    rows = []
    for texts in pairs:
        lists = [[texts]] if isinstance(texts, str) else [[part] for part in texts]  # alone, an empty second is dropped
        features = tokenizer(*lists, return_tensors="pt", truncation=truncation, max_length=64)
        with torch.no_grad():
            rows.append(network(**features).logits[0].numpy())
    return np.stack(rows)


def sigmoid(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.exp(x) / np.exp(x).sum(1, keepdims=True)


class Column(Sequence[Any]):
    """As a column of ``datasets``: a sequence that is no list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: Any) -> Any:
        return self.items[at]


# --- what comes out


def test_scores_are_the_sigmoid_of_the_slow_formula(one: CrossEncoder) -> None:
    assert_allclose(one.predict(PAIRS), sigmoid(slow_logits(one, PAIRS))[:, 0], rtol=0, atol=2e-6)


def test_several_labels_are_the_logits_themselves(three: CrossEncoder) -> None:
    assert_allclose(three.predict(PAIRS), slow_logits(three, PAIRS), rtol=0, atol=2e-6)


SHAPES = [
    (PAIRS, {}, np.ndarray, (5,)),
    (PAIR, {}, np.float32, ()),
    ([PAIR], {}, np.ndarray, (1,)),
    (PAIRS, {"convert_to_tensor": True}, torch.Tensor, (5,)),
    (PAIR, {"convert_to_tensor": True}, torch.Tensor, ()),
    (PAIR, {"convert_to_numpy": False}, torch.Tensor, ()),
    (PAIRS, {"convert_to_tensor": True, "convert_to_numpy": False}, torch.Tensor, (5,)),
    ("a text alone", {}, np.float32, ()),
    (["the cat", "the dog"], {}, np.float32, ()),
]


@pytest.mark.parametrize(("inputs", "options", "kind", "shape"), SHAPES)
def test_kind_and_shape_of_one_score(
    inputs: Any, options: dict[str, Any], kind: type, shape: tuple[int, ...], one: CrossEncoder
) -> None:
    result = one.predict(inputs, **options)
    assert type(result) is kind
    assert (tuple(result.shape), str(result.dtype).removeprefix("torch.")) == (shape, "float32")


@pytest.mark.parametrize(("inputs", "options", "kind", "shape"), SHAPES)
def test_kind_and_shape_of_three_labels(
    inputs: Any, options: dict[str, Any], kind: type, shape: tuple[int, ...], three: CrossEncoder
) -> None:
    result = three.predict(inputs, **options)
    assert type(result) is (np.ndarray if kind is np.float32 else kind)
    assert (tuple(result.shape), str(result.dtype).removeprefix("torch.")) == ((*shape, 3), "float32")


def test_neither_array_nor_tensor_is_a_list_of_tensors(one: CrossEncoder, three: CrossEncoder) -> None:
    for model, shape in ((one, ()), (three, (3,))):
        rows = model.predict(PAIRS, convert_to_numpy=False)
        assert type(rows) is list
        assert [tuple(row.shape) for row in rows] == [shape] * 5
        assert_array_equal(torch.stack(rows).numpy(), model.predict(PAIRS))


@pytest.mark.parametrize(
    "empty", [[], (), np.array([]), np.array([], dtype=str), np.empty((0, 2), dtype=object), Column([])]
)
def test_no_pairs_give_an_empty_result_of_the_same_kind_and_width(
    empty: Any, one: CrossEncoder, three: CrossEncoder
) -> None:
    for model, shape in ((one, (0,)), (three, (0, 3))):
        array, tensor = model.predict(empty), model.predict(empty, convert_to_tensor=True)
        assert (type(array), array.shape, array.dtype) == (np.ndarray, shape, np.float32)
        assert (type(tensor), tuple(tensor.shape), tensor.dtype) == (torch.Tensor, shape, torch.float32)
        assert model.predict(empty, convert_to_numpy=False) == []


def test_the_result_is_an_ordinary_array_and_an_ordinary_tensor(one: CrossEncoder) -> None:
    """The reference gives inference tensors, which autograd refuses."""
    scores, tensor = one.predict(PAIRS), one.predict(PAIRS, convert_to_tensor=True)
    scores += 1
    weight = torch.ones(5, requires_grad=True)
    (tensor * weight).sum().backward()
    assert weight.grad is not None
    assert_allclose(weight.grad.numpy(), scores - 1, rtol=1e-6)


# --- what goes in


@pytest.mark.parametrize(
    "inputs",
    [
        tuple(PAIRS),
        [list(pair) for pair in PAIRS],
        tuple(list(pair) for pair in PAIRS),
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        [np.array(pair) for pair in PAIRS],
        Column(list(PAIRS)),
        Column([list(pair) for pair in PAIRS]),
    ],
    ids=["tuple", "lists", "tuple of lists", "array", "objects", "list of arrays", "column", "column of lists"],
)
def test_pairs_may_come_in_any_sequence(inputs: Any, one: CrossEncoder) -> None:
    assert_array_equal(one.predict(inputs), one.predict(PAIRS))


@pytest.mark.parametrize("pair", [PAIR, list(PAIR), np.array(PAIR), np.array(PAIR, dtype=object)])
def test_one_pair_gives_the_row_it_gives_in_a_list(pair: Any, one: CrossEncoder, three: CrossEncoder) -> None:
    for model in (one, three):
        assert_allclose(model.predict(pair), model.predict([PAIR])[0], rtol=0, atol=1e-6)


def test_a_text_alone_is_scored_without_a_second(one: CrossEncoder) -> None:
    assert_allclose(one.predict("the cat"), sigmoid(slow_logits(one, ["the cat"]))[0, 0], rtol=0, atol=2e-6)


def test_texts_alone_and_pairs_may_be_mixed(one: CrossEncoder) -> None:
    mixed = [PAIR, "the cat", {"text": "the cat"}, PAIRS[1]]
    expected = sigmoid(slow_logits(one, [PAIR, "the cat", "the cat", PAIRS[1]]))[:, 0]
    assert_allclose(one.predict(mixed), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("inputs", "single"),
    [
        (PAIR, True),
        (PAIRS, False),
        ("text", True),
        ([], False),
        (np.array([]), False),
        (np.array(PAIR), True),
        (np.array(PAIRS), False),
        ([[]], False),
        (Column(["a", "b"]), False),
        ([{"role": "user", "content": "a"}], True),
        ({"text": "a"}, True),
        (b"ab", True),
        (None, True),
    ],
)
def test_is_singular_input(inputs: Any, single: bool) -> None:
    assert CrossEncoder.is_singular_input(inputs) is single


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        (None, "NoneType"),
        (123, "int"),
        (1.5, "float"),
        (b"bytes", "bytes"),
        (iter(PAIRS), "list_iterator"),
        ({PAIR}, "set"),
        ([None], "list of 1"),
        ([1, 2], "int"),
        ([[1, 2]], "int"),
        (np.array([[1, 2]]), "int"),
        ([("a", None)], "NoneType"),
        ([(None, "a")], "NoneType"),
        ([("a", ["b"])], "list"),
        ([PAIR, None], "NoneType"),
        ([PAIR, 7], "int"),
        (["a"], "list of 1"),
        (["a", "b", "c"], "list of 3"),
        ([("a",)], "tuple of 1"),
        ([("a", "b", "c")], "tuple of 3"),
        ([[]], "list of 0"),
        ([PAIR, ()], "tuple of 0"),
        (np.array([["a", "b", "c"]]), "list of 3"),
    ],
)
def test_what_is_no_pair_is_refused(inputs: Any, got: str, one: CrossEncoder) -> None:
    kind, _, count = got.partition(" of ")
    with pytest.raises(
        ValueError, match=rf"^Unsupported input type: {kind}\. Expected (one of: str|a text or a pair)"
    ) as error:
        one.predict(inputs)
    assert not count or f"got a {got} (" in str(error.value)


@pytest.mark.parametrize("inputs", [{"a": 1, "b": 2}, torch.ones(2, 2), [(torch.ones(2), "a")]])
def test_what_no_text_model_reads_is_refused(inputs: Any, one: CrossEncoder) -> None:
    with pytest.raises(ValueError, match="reads text alone|Unsupported input type: Tensor"):
        one.predict(inputs)


def test_a_conversation_needs_a_chat_template(one: CrossEncoder) -> None:
    with pytest.raises(ValueError, match="does not support chat-style 'message' inputs"):
        one.predict([{"role": "user", "content": "a"}])


# --- nothing depends on the others


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_batch_size_does_not_matter(batch_size: int, one: CrossEncoder, three: CrossEncoder) -> None:
    for model in (one, three):
        assert_allclose(model.predict(PAIRS * 3, batch_size=batch_size), model.predict(PAIRS * 3), rtol=0, atol=1e-6)


def test_the_order_does_not_matter(three: CrossEncoder) -> None:
    order = [3, 0, 4, 2, 1]
    assert_allclose(three.predict([PAIRS[i] for i in order]), three.predict(PAIRS)[order], rtol=0, atol=1e-6)


def test_the_other_pairs_do_not_matter(one: CrossEncoder) -> None:
    alone = [one.predict([pair])[0] for pair in PAIRS]
    assert_allclose(one.predict([*LONG, *PAIRS], on_truncate="ignore")[4:], alone, rtol=0, atol=1e-6)


def test_a_pair_and_its_reverse_are_two_pairs(one: CrossEncoder) -> None:
    scores = one.predict([PAIR, PAIR[::-1], PAIR], activation_fn=RAW)
    assert scores[0] == scores[2]
    assert_allclose(scores[:2], slow_logits(one, [PAIR, PAIR[::-1]])[:, 0], rtol=0, atol=2e-6)
    assert scores[0] != scores[1]


def test_equal_pairs_are_computed_once(one: CrossEncoder) -> None:
    rows = []

    def count(scores: torch.Tensor) -> torch.Tensor:
        rows.append(len(scores))
        return scores

    one.predict([PAIR, list(PAIR), PAIRS[1], PAIR], activation_fn=count)
    assert sum(rows) == 2


def test_every_text_is_tokenised_once(one: CrossEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode = TextProcessor._encode

    def watched(self: TextProcessor, texts: list[str], special: bool) -> Any:
        seen.extend(texts)
        return encode(self, texts, special)

    monkeypatch.setattr(TextProcessor, "_encode", watched)
    one.predict([(query, document) for query in ("a", "b") for document in ("c", "d", "a")])
    assert sorted(seen) == ["a", "b", "c", "d"]


def test_many_threads_may_score_at_once(three: CrossEncoder) -> None:
    expected = three.predict(PAIRS)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: three.predict(PAIRS, batch_size=2), range(12)))
    for scores in found:
        assert_allclose(scores, expected, rtol=0, atol=1e-6)


# --- activation and softmax


def test_an_activation_of_the_call_is_for_the_call_only(one: CrossEncoder) -> None:
    logits, before = slow_logits(one, PAIRS)[:, 0], one.predict(PAIRS)
    assert_allclose(one.predict(PAIRS, activation_fn=torch.tanh), np.tanh(logits), rtol=0, atol=2e-6)
    assert_array_equal(one.predict(PAIRS), before)


def test_the_activation_of_the_model_may_be_set(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu")
    model.activation_fn = torch.tanh
    assert_allclose(model.predict(PAIRS), np.tanh(slow_logits(model, PAIRS)[:, 0]), rtol=0, atol=2e-6)


def test_an_activation_without_anything_in_it_still_counts(one: CrossEncoder) -> None:
    """An empty ``Sequential`` is false, but it is an activation."""
    scores = one.predict(PAIRS, activation_fn=torch.nn.Sequential())
    assert_allclose(scores, slow_logits(one, PAIRS)[:, 0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_an_activation_may_drop_the_dimension_of_labels(
    batch_size: int, one: CrossEncoder, three: CrossEncoder
) -> None:
    last = three.predict(PAIRS, activation_fn=lambda scores: scores[:, 2], batch_size=batch_size)
    assert_allclose(last, slow_logits(three, PAIRS)[:, 2], rtol=0, atol=2e-6)
    only = one.predict(PAIRS, activation_fn=lambda scores: scores[:, 0], batch_size=batch_size)
    assert_allclose(only, slow_logits(one, PAIRS)[:, 0], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("wrong", "got"), [("tanh", "'tanh'"), (torch.nn.Tanh, "the class Tanh"), (3, "3")])
@pytest.mark.parametrize("inputs", [PAIRS, []])
def test_what_is_no_activation_is_refused(wrong: Any, got: str, inputs: Any, one: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=rf"activation_fn must be something .* got {got}\."):
        one.predict(inputs, activation_fn=wrong)


def test_softmax_makes_labels_sum_to_one(three: CrossEncoder) -> None:
    expected = softmax(slow_logits(three, PAIRS))
    assert_allclose(three.predict(PAIRS, apply_softmax=True), expected, rtol=0, atol=2e-6)
    assert_allclose(three.predict(PAIR, apply_softmax=True), expected[0], rtol=0, atol=2e-6)


def test_softmax_comes_after_the_activation(three: CrossEncoder) -> None:
    expected = softmax(np.tanh(slow_logits(three, PAIRS)))
    found = three.predict(PAIRS, apply_softmax=True, activation_fn=torch.tanh)
    assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_softmax_leaves_one_score_alone(one: CrossEncoder) -> None:
    assert_array_equal(one.predict(PAIRS, apply_softmax=True), one.predict(PAIRS))


# --- prompts


def test_a_prompt_stands_before_the_first_text(one: CrossEncoder) -> None:
    expected = one.predict([("find this: " + first, second) for first, second in PAIRS])
    for options in ({"prompt": "find this: "}, {"prompt_name": "find"}):
        assert_allclose(one.predict(PAIRS, **options), expected, rtol=0, atol=1e-6)
    assert not np.allclose(one.predict(PAIRS), expected, rtol=0, atol=1e-5)


def test_a_prompt_stands_before_a_text_alone_and_before_one_pair(one: CrossEncoder) -> None:
    prompt = "find this: "
    assert_allclose(one.predict("a", prompt=prompt), one.predict(prompt + "a"), rtol=0, atol=1e-6)
    assert_allclose(one.predict(["a", "b"], prompt=prompt), one.predict([prompt + "a", "b"]), rtol=0, atol=1e-6)


def test_a_prompt_goes_into_arrays_too(one: CrossEncoder) -> None:
    assert_array_equal(one.predict(np.array(PAIRS), prompt="a "), one.predict(PAIRS, prompt="a "))


def test_the_default_prompt_and_an_empty_one_instead(folder: Path, one: CrossEncoder) -> None:
    model = CrossEncoder(str(folder), device="cpu", prompts={"find": "find this: "}, default_prompt_name="find")
    assert_array_equal(model.predict(PAIRS), one.predict(PAIRS, prompt_name="find"))
    assert_array_equal(model.predict(PAIRS, prompt=""), one.predict(PAIRS))


def test_a_prompt_wins_over_a_name(one: CrossEncoder, caplog: pytest.LogCaptureFixture) -> None:
    both = one.predict(PAIRS, prompt_name="find", prompt="a ")
    assert "Both prompt and prompt_name were given" in caplog.text
    assert_array_equal(both, one.predict(PAIRS, prompt="a "))


@pytest.mark.parametrize("inputs", [PAIRS, []])
def test_an_unknown_prompt_name_is_refused(inputs: Any, one: CrossEncoder) -> None:
    says = r"Prompt name 'nope' not found in the configured prompts dictionary with keys \['find'\]\."
    with pytest.raises(ValueError, match=says):
        one.predict(inputs, prompt_name="nope")


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "8"])
@pytest.mark.parametrize("inputs", [PAIRS, []])
def test_a_batch_size_below_one_is_refused(size: Any, inputs: Any, one: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be a positive integer, got {size!r}"):
        one.predict(inputs, batch_size=size)


# --- pairs that are too long


@pytest.mark.parametrize("policy", ["longest_first", "only_second", "only_first"])
def test_truncation_cuts_the_text_it_names(policy: Any, one: CrossEncoder) -> None:
    pairs = {"only_second": LONG[1:2], "only_first": LONG[:1], "longest_first": LONG}[policy]
    found = one.predict(pairs, truncation=policy, on_truncate="ignore", activation_fn=RAW)
    assert_allclose(found, slow_logits(one, pairs, policy)[:, 0], rtol=0, atol=2e-6)


def test_predict_cuts_the_longer_text_unless_told_otherwise(one: CrossEncoder) -> None:
    pair = ("the cat " * 20, "a dog sat " * 15)  # both longer than half of the window
    scores = {
        policy: one.predict(pair, truncation=policy, activation_fn=RAW, on_truncate="ignore")
        for policy in ("longest_first", "only_second")
    }
    assert one.predict(pair, activation_fn=RAW, on_truncate="ignore") == scores["longest_first"]
    assert scores["longest_first"] != scores["only_second"]


def test_cut_pairs_are_counted_once_per_call_and_repeats_count(
    one: CrossEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    one.predict([*LONG, LONG[0], PAIR])
    found = [record.getMessage() for record in caplog.records if "max_seq_length" in record.getMessage()]
    assert len(found) == 1
    assert found[0].startswith("4 of 6 inputs are longer than max_seq_length = 64 tokens")


def test_cut_pairs_may_be_an_error_or_nothing(one: CrossEncoder, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="3 of 4 inputs are longer than max_seq_length = 64 tokens"):
        one.predict(LONG, on_truncate="error")
    one.predict(LONG, on_truncate="ignore")
    assert not caplog.records


def test_max_length_of_the_call(one: CrossEncoder) -> None:
    _, tokenizer = parts_of(one[0].pretrained.folder)
    long = ("the cat sat on the mat", "a dog sat by the door")
    ids = tokenizer(*long, truncation=True, max_length=9)["input_ids"]
    assert one.preprocess([long], max_length=9)["input_ids"][0].tolist() == ids
    with torch.inference_mode():
        expected = one(one.preprocess([long], max_length=9))["scores"][0]
    found = one.predict([long], max_length=9, activation_fn=RAW, on_truncate="ignore")
    assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)


def test_truncation_written_in_processing_kwargs_wins(one: CrossEncoder) -> None:
    given = {"text": {"truncation": "only_first", "max_length": 14}}
    pair = ("the cat sat on the mat", "a dog sat by it")
    found = one.predict(pair, processing_kwargs=given, truncation="only_second", on_truncate="ignore")
    same = one.predict(pair, max_length=14, truncation="only_first", on_truncate="ignore")
    other = one.predict(pair, max_length=14, truncation="only_second", on_truncate="ignore")
    assert found == same != other


@pytest.mark.parametrize("inputs", [PAIRS, []])
def test_an_unknown_truncation_is_refused(inputs: Any, one: CrossEncoder) -> None:
    with pytest.raises(ValueError, match="truncation must be one of 'longest_first'.*got 'only_secnd'. Did you mean"):
        one.predict(inputs, truncation="only_secnd")  # type: ignore[arg-type]


# --- arguments, types, copies


def test_other_arguments_are_handed_on_unchecked(one: CrossEncoder) -> None:
    assert_array_equal(one.predict(PAIRS, foo=1, task="query"), one.predict(PAIRS))


def test_device_moves_the_model(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu")
    assert model.predict(PAIRS, device="cpu", convert_to_tensor=True).device.type == "cpu"
    model.predict([], device="meta")
    assert model.device.type == "meta"


def test_forward_gives_scores_of_every_label(one: CrossEncoder, three: CrossEncoder) -> None:
    for model, labels in ((one, 1), (three, 3)):
        with torch.inference_mode():
            scores = model(model.preprocess(PAIRS))["scores"]
        assert scores.shape == (5, labels)
        assert_allclose(scores.numpy(), slow_logits(model, PAIRS), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("dtype", "off"), [("float16", 0.002), ("bfloat16", 0.02)])
def test_narrow_types_give_float32(dtype: str, off: float, folder: Path, one: CrossEncoder) -> None:
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype})
    kinds: list[torch.dtype] = []

    def watched(scores: torch.Tensor) -> torch.Tensor:
        kinds.append(scores.dtype)
        return torch.sigmoid(scores)

    array, tensor = model.predict(PAIRS, activation_fn=watched), model.predict(PAIRS, convert_to_tensor=True)
    assert (model.dtype, array.dtype, tensor.dtype) == (getattr(torch, dtype), np.float32, torch.float32)
    assert set(kinds) == {torch.float32}  # so the activation itself loses nothing
    assert_allclose(array, one.predict(PAIRS), rtol=0, atol=off)


def test_float64_is_exact_in_a_tensor_and_float32_in_an_array(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": "float64"})
    tensor, array = model.predict(PAIRS, convert_to_tensor=True), model.predict(PAIRS)
    assert (tensor.dtype, array.dtype) == (torch.float64, np.float32)
    assert_allclose(tensor.numpy(), sigmoid(slow_logits(model, PAIRS))[:, 0], rtol=0, atol=1e-12)
    assert_array_equal(array, tensor.float().numpy())


def test_a_copy_scores_the_same_and_is_a_model_of_its_own(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Tanh())
    expected, other = model.predict(PAIRS), copy.deepcopy(model)
    assert_array_equal(other.predict(PAIRS), expected)
    other.activation_fn = RAW
    torch.nn.init.zeros_(other.model.classifier.weight)
    torch.nn.init.constant_(other.model.classifier.bias, 0.25)
    assert_array_equal(other.predict(PAIRS), np.full(5, 0.25, np.float32))
    assert_array_equal(model.predict(PAIRS), expected)


# --- generative rerankers


def test_a_language_model_scores_by_how_much_rather_it_says_yes_than_no(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_heads.build_answering(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = []
    for pair in PAIRS[:3]:
        with torch.no_grad():
            last = network(**tokenizer(*([part] for part in pair), return_tensors="pt")).logits[0, -1]
        expected.append(float(last[yes] - last[no]))
    model = CrossEncoder(str(folder), device="cpu")
    assert model.num_labels == 1
    assert_allclose(model.predict(PAIRS[:3], activation_fn=RAW), expected, rtol=0, atol=5e-6)
    assert_allclose(model.predict(PAIRS[:3]), [1 / (1 + math.exp(-x)) for x in expected], rtol=0, atol=5e-6)
    assert model.rank(PAIRS[0][0], [second for _, second in PAIRS[:3]])[0]["score"] <= 1
