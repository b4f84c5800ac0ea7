"""The dense examples of the system description run word for word, offline, with the real model.

What they print is compared with what the reference implementation printed for the same blocks, where the comments in
the description are only illustrations; the three sentences' similarities and all shapes are those of the description.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sentence_transformers import SentenceTransformer
from tests.integration.snippets import DESCRIPTION, Run, numbers, runner, sections, serve, without_other_parts

FIRST, LAST = "Loading a Pre-trained SentenceTransformer Model", "Semantic Search"
OTHERS = (
    "Clustering Embeddings",
    "Quantizing Embeddings for Efficiency",
    "Using Prompts with Models",
    "Model Saving and Loading",
)


def dense_titles(titles: list[str]) -> list[str]:
    return [*titles[titles.index(FIRST) : titles.index(LAST) + 1], *OTHERS]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What cannot be had offline: all-mpnet-base-v2, and a GPU.

    The model is a small random MPNet in a cache of the Hugging Face layout, under the real name. Where there is no
    CUDA, the device "cuda" is taken for the CPU.
    """
    import tiny

    serve(
        tmp_path / "cache",
        "sentence-transformers/all-mpnet-base-v2",
        lambda folder: tiny.build_with_pooling("mpnet", folder, "mean"),
        monkeypatch,
    )
    if not torch.cuda.is_available():
        constructor = SentenceTransformer.__init__

        def on_the_cpu(self: Any, *args: Any, device: Any = None, **kwargs: Any) -> None:
            constructor(self, *args, device="cpu" if device == "cuda" else device, **kwargs)

        monkeypatch.setattr(SentenceTransformer, "__init__", on_the_cpu)
    yield


@pytest.fixture
def run(
    minilm_folder: Path,
    stand_ins: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    return runner(tmp_path / "here", monkeypatch, capsys)


# --- the extraction itself


def test_the_dense_sections_are_these() -> None:
    assert dense_titles(list(sections())) == [
        "Loading a Pre-trained SentenceTransformer Model",
        "Computing Sentence Embeddings",
        "Computing Query and Document Embeddings",
        "Computing Similarity Between Embeddings",
        "Semantic Search",
        "Clustering Embeddings",
        "Quantizing Embeddings for Efficiency",
        "Using Prompts with Models",
        "Model Saving and Loading",
    ]


def test_every_dense_section_has_code() -> None:
    found = sections()
    assert all(len(ast.parse(found[title]).body) > 2 for title in dense_titles(list(found)))


def test_code_is_left_out_of_the_section_on_saving_alone() -> None:
    found = sections()
    shortened = [
        title for title in dense_titles(list(found)) if without_other_parts(found[title]) != found[title].rstrip("\n")
    ]
    assert shortened == ["Model Saving and Loading"]


def test_what_is_left_of_the_section_on_saving() -> None:
    kept = ast.parse(without_other_parts(sections()["Model Saving and Loading"]))
    assert [ast.unparse(statement) for statement in kept.body] == [
        "from sentence_transformers import SentenceTransformer",
        "model = SentenceTransformer('all-MiniLM-L6-v2')",
        "model.save('my-local-model')",
        "loaded_model = SentenceTransformer('my-local-model')",
        "model.save('my-model', safe_serialization=True)",
        "from sentence_transformers import export_optimized_onnx_model",
        "export_optimized_onnx_model(model_name='all-MiniLM-L6-v2', output_path='my-onnx-model')",
        "onnx_model = SentenceTransformer('my-onnx-model', backend='onnx')",
    ]


def test_code_keeps_its_lines() -> None:
    text = DESCRIPTION.read_text(encoding="utf-8").splitlines() if sections() else []
    for number, line in enumerate(sections()["Semantic Search"].splitlines()):
        assert line in ("", text[number])


# --- the sections


def test_loading(run: Run) -> None:
    with pytest.warns(FutureWarning, match="get_embedding_dimension"):
        names, printed = run("Loading a Pre-trained SentenceTransformer Model")
    # The comment says 384. This model object has truncate_dim=256 and gives 256 columns; the reference says 256 too.
    assert printed == "Model dimension: 256\n"
    assert names["model"].encode("a").shape == (256,)


def test_sentence_embeddings(run: Run) -> None:
    names, printed = run("Computing Sentence Embeddings")
    shapes, kind = printed.splitlines()[:2], printed.splitlines()[2]
    assert shapes == ["Embedding shape: (384,)", "Embeddings shape: (3, 384)"]
    assert kind == f"Type: <class 'torch.Tensor'>, Device: {names['model'].device}"
    assert_allclose(np.linalg.norm(names["normalized_embeddings"], axis=1), np.ones(3), rtol=1e-6)
    assert_allclose(names["tensor_embeddings"].cpu().numpy(), names["embeddings"], rtol=0, atol=2e-6)
    assert (names["corpus_embeddings"].shape, names["corpus_embeddings"].dtype) == ((1000, 384), np.float32)


def test_query_and_document_embeddings(run: Run) -> None:
    names, printed = run("Computing Query and Document Embeddings")
    assert tuple(names["similarities"].shape) == (2, 3)
    assert numbers(printed) == [0.8757, 0.5863, 0.2765, 0.4983, 0.7045, 0.1655]


def test_similarity(run: Run) -> None:
    names, printed = run("Computing Similarity Between Embeddings")
    # as the description prints them, and then the pair
    assert numbers(printed) == [1.0, 0.6660, 0.1046, 0.6660, 1.0, 0.1411, 0.1046, 0.1411, 1.0, 0.6199]
    assert tuple(names["pairwise_sim"].shape) == (1,)
    assert names["model"].similarity_fn_name == "dot"
    assert_allclose(names["dot_similarities"].cpu(), names["similarities"].cpu(), rtol=0, atol=1e-5)


def test_the_similarities_stand_in_the_description_as_they_are_printed(run: Run) -> None:
    _, printed = run("Computing Similarity Between Embeddings")
    comments = re.findall(r"^# (.*)$", sections()["Computing Similarity Between Embeddings"], re.MULTILINE)
    if not torch.cuda.is_available():  # there a tensor prints its device as well
        assert printed.splitlines()[:3] == comments[1:4]


def test_semantic_search(run: Run) -> None:
    names, printed = run("Semantic Search")
    found = re.findall(r"Score: (\d\.\d{4}) - (.*)", printed)
    assert [(score, names["corpus"].index(text)) for score, text in found] == [
        ("0.6974", 2), ("0.5868", 1), ("0.4653", 0), ("0.3451", 3), ("0.3445", 4), ("0.1488", 1),
    ]  # fmt: skip
    assert re.findall(r"Query: (.*)", printed) == names["queries"]


def test_clustering(run: Run) -> None:
    pytest.importorskip("sklearn", reason="the example uses scikit-learn")
    names, printed = run("Clustering Embeddings")
    groups: dict[int, set[int]] = {}
    for sentence, cluster in enumerate(names["cluster_assignment"]):
        groups.setdefault(int(cluster), set()).add(sentence)
    assert sorted(map(sorted, groups.values())) == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    assert re.findall(r"Cluster (\d):", printed) == ["1", "2", "3"]


def test_quantization(run: Run) -> None:
    names, printed = run("Quantizing Embeddings for Efficiency")
    assert printed.splitlines() == [
        "Original embeddings: (100, 384), dtype: float32",
        "Int8 embeddings: (100, 384), dtype: int8",
        "Memory reduction: 4.0x",
        "Binary embeddings: (100, 384), dtype: int8",
        "Memory reduction: 4.0x",
        "Ubinary embeddings: (100, 48), dtype: uint8",
        "Memory reduction: 32.0x",
    ]
    assert (names["uint8_embeddings"].dtype, names["int8_calibrated"].dtype) == (np.uint8, np.int8)
    assert names["int8_calibrated"].shape == (100, 384)
    assert set(np.unique(names["binary_embeddings"])) == {-1, 1}


def test_quantization_prints_what_its_comments_say(run: Run) -> None:
    _, printed = run("Quantizing Embeddings for Efficiency")
    comments = re.findall(r"^# (.*)$", sections()["Quantizing Embeddings for Efficiency"], re.MULTILINE)
    said = [
        comment for comment in comments if comment.startswith(("Original", "Int8", "Memory", "Binary emb", "Ubinary"))
    ]
    assert len(said) == 7
    assert all(comment.startswith(line) for comment, line in zip(said, printed.splitlines(), strict=True))


def test_prompts(run: Run) -> None:
    names, printed = run("Using Prompts with Models")
    model = names["model"]
    assert numbers(printed) == [0.6464, 0.0865, 0.1353, 0.2678]
    plain = SentenceTransformer("all-MiniLM-L6-v2")
    for name, prompt in (
        ("query_embedding", "query: What is Python?"),
        ("passage_embedding", "passage: Python is a programming language"),
        ("custom_embedding", "Classify this text: Machine learning topic"),
    ):
        assert_allclose(names[name], plain.encode(prompt), rtol=0, atol=2e-6)
    assert model.prompts["clustering"] == "Identify the category: "


def test_saving_loading_and_exporting(run: Run) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra onnx")
    names, printed = run("Model Saving and Loading")
    assert printed == ""
    texts = ["The weather is lovely today.", "He drove to the stadium."]
    expected = names["model"].encode(texts)
    assert_allclose(names["loaded_model"].encode(texts), expected, rtol=0, atol=1e-6)
    assert_allclose(SentenceTransformer("my-model").encode(texts), expected, rtol=0, atol=1e-6)
    assert (Path("my-model") / "model.safetensors").is_file()
    assert names["onnx_model"].get_backend() == "onnx"
    assert_allclose(names["onnx_model"].encode(texts), expected, rtol=0, atol=1e-5)
