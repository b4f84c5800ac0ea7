"""Record what the reference implementation computes with its rerankers, sparse and multi-vector encoders.

``REFERENCE/bin/python tests/parity/record_encoders.py [OUT.json]``, by hand, with an interpreter that has the reference
installed, never in CI. Uses its public API only; inputs and models are in ``encoder_facts.py`` and ``tiny_heads.py``.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import encoder_facts as facts
import texts
import tiny_heads as heads
import torch
from record import versions, write
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, LambdaTokenPooling
from sentence_transformers.sentence_transformer.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder

HERE = Path(__file__).resolve().parent
LOCAL: dict[str, Any] = {"device": "cpu", "local_files_only": True}
RAW = torch.nn.Identity()


def record_classifiers(folder: Path) -> dict[str, Any]:
    """Scores of every ``*ForSequenceClassification``: as they leave the model, and after the default activation."""
    found = {}
    for name in heads.CLASSIFIERS:
        path = heads.build_classifier(name, folder / name)
        model = CrossEncoder(str(path), **LOCAL)
        found[name] = {
            "fingerprint": heads.fingerprint(path),
            "raw": texts.rounded(model.predict(facts.PAIRS, activation_fn=RAW)),
            "default": texts.rounded(model.predict(facts.PAIRS)),
            "prompt": texts.rounded(model.predict(facts.PAIRS[:4], prompt=facts.INSTRUCTION, activation_fn=RAW)),
        }
    return found


def record_cross(folder: Path) -> dict[str, Any]:
    """Three labels, prompts, ``rank``, where the activation comes from, and a Dense that gives the scores."""
    path = heads.build_classifier("bert", folder / "three", 3)
    model = CrossEncoder(str(path), **LOCAL)
    found: dict[str, Any] = {
        "labels": {
            "fingerprint": heads.fingerprint(path),
            "default": texts.rounded(model.predict(facts.PAIRS)),
            "softmax": texts.rounded(model.predict(facts.PAIRS, apply_softmax=True)),
            "sigmoid": texts.rounded(model.predict(facts.PAIRS, activation_fn=torch.nn.Sigmoid())),
        }
    }
    path = heads.build_classifier("roberta", folder / "one")
    model = CrossEncoder(str(path), prompts={"find": facts.INSTRUCTION}, **LOCAL)
    asked = CrossEncoder(str(path), prompts={"find": facts.INSTRUCTION}, default_prompt_name="find", **LOCAL)
    found["prompts"] = {
        "none": texts.rounded(model.predict(facts.PAIRS, activation_fn=RAW)),
        "named": texts.rounded(model.predict(facts.PAIRS, prompt_name="find", activation_fn=RAW)),
        "default": texts.rounded(asked.predict(facts.PAIRS, activation_fn=RAW)),
        "default_off": texts.rounded(asked.predict(facts.PAIRS, prompt="", activation_fn=RAW)),
        "max_length_9": texts.rounded(model.predict(facts.PAIRS, max_length=9, activation_fn=RAW)),
    }
    found["rank"] = {
        "all": ranked(model.rank(facts.QUERY, facts.DOCUMENTS)),
        "top_3": ranked(model.rank(facts.QUERY, facts.DOCUMENTS, top_k=3, return_documents=True)),
        "prompt": ranked(model.rank(facts.QUERY, facts.DOCUMENTS, prompt_name="find", activation_fn=RAW)),
    }
    found["activation"] = {
        name: record_activation(write_activation(folder / name)) for name, write_activation in ACTIVATIONS.items()
    }
    path = heads.build_scoring_dense(folder / "dense")
    model = CrossEncoder(str(path), **LOCAL)
    found["dense"] = {
        "fingerprint": heads.fingerprint(path),
        "num_labels": model.num_labels,
        "raw": texts.rounded(model.predict(facts.PAIRS, activation_fn=RAW)),
        "default": texts.rounded(model.predict(facts.PAIRS)),
    }
    return found


ACTIVATIONS: dict[str, Callable[[Path], Path]] = {
    "version_2": lambda folder: heads.build_activation(folder, "sbert_ce_default_activation_function"),
    "version_4": lambda folder: heads.build_activation(folder, "sentence_transformers"),
    "version_6": lambda folder: heads.build_activation(folder, "config_sentence_transformers"),
    "untrusted": lambda folder: heads.build_activation(folder, "untrusted"),
}


def record_activation(path: Path) -> dict[str, Any]:
    model = CrossEncoder(str(path), **LOCAL)
    return {"name": type(model.activation_fn).__name__, "scores": texts.rounded(model.predict(facts.PAIRS[:3]))}


def ranked(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item | {"score": texts.rounded(item["score"])} for item in found]


def record_answering(folder: Path) -> dict[str, Any]:
    """The generative reranker without a template: tokens of a pair and scores, from a bare and from a saved folder."""
    found = {}
    for name, build in (("bare", heads.build_answering), ("saved", heads.build_answering_saved)):
        path = build(folder / name)
        model = CrossEncoder(str(path), **LOCAL)
        found[name] = {
            "fingerprint": heads.fingerprint(path),
            "ids": [model[1].true_token_id, model[1].false_token_id],
            "rendered": rendered(model, facts.RENDERED),
            "raw": texts.rounded(model.predict(facts.PAIRS, activation_fn=RAW)),
            "default": texts.rounded(model.predict(facts.PAIRS)),
            "prompt": texts.rounded(model.predict(facts.PAIRS, prompt=facts.INSTRUCTION, activation_fn=RAW)),
        }
    return found


def record_templates(folder: Path) -> dict[str, Any]:
    """The same with each chat template: what the tokens say, and the scores where a pair can be rendered."""
    found = {}
    for name, template in facts.TEMPLATES.items():
        build = heads.build_answering_saved if name == "qwen" else heads.build_answering
        model = CrossEncoder(str(build(folder / name, template)), **LOCAL)
        found[name] = {"modalities": model.modalities, "rendered": rendered(model, facts.asked(name))}
        if "raises" not in found[name]["rendered"]["pair"]:
            found[name]["raw"] = texts.rounded(model.predict(facts.PAIRS, activation_fn=RAW))
            prompted = model.predict(facts.PAIRS, prompt=facts.INSTRUCTION, activation_fn=RAW)
            found[name]["prompt"] = texts.rounded(prompted)
    return found


def rendered(model: CrossEncoder, names: Iterable[str]) -> dict[str, Any]:
    """What the tokens of these inputs of ``facts.RENDERED`` say, or the error."""
    found: dict[str, Any] = {}
    for name in names:
        inputs, options = facts.RENDERED[name]
        try:
            features = model.preprocess(inputs, **options)
        except Exception as error:
            says = str(error).split(". Pair inputs")[0]
            found[name] = {"raises": type(error).__name__, "says": says[max(says.find("cannot carry"), 0) :][:160]}
            continue
        found[name] = {
            "texts": model.tokenizer.batch_decode(features["input_ids"]),
            "counts": features["attention_mask"].sum(1).tolist(),
            "modality": features["modality"],
        }
    return found


def record_masked(folder: Path) -> dict[str, Any]:
    """SPLADE weights of every masked-language model, from a bare folder."""
    found = {}
    for name in heads.MASKED:
        path = heads.build_masked(name, folder / name)
        model = SparseEncoder(str(path), **LOCAL)
        chosen = facts.TEXTS[:2] if name == "modernbert-unbiased" else facts.TEXTS
        found[name] = {"fingerprint": heads.fingerprint(path), **sparse(model.encode(chosen))}
    return found


def record_sparse(folder: Path) -> dict[str, Any]:
    """Pooling settings, limits, routes, the auto-encoder, similarities, decoding."""
    found: dict[str, Any] = {}
    for strategy in ("max", "sum"):
        for activation in ("relu", "log1p_relu"):
            path = heads.build_splade(folder / f"{strategy}-{activation}", strategy, activation)
            found[f"{strategy}-{activation}"] = sparse(SparseEncoder(str(path), **LOCAL).encode(facts.TEXTS[:4]))
    bert = heads.build_masked("bert", folder / "bert")
    model = SparseEncoder(str(bert), prompts={"query": facts.INSTRUCTION}, **LOCAL)
    found["max_active_dims"] = sparse(model.encode(facts.TEXTS, max_active_dims=8))
    found["query_prompt"] = sparse(model.encode_query(facts.TEXTS[:2]))
    path = heads.build_inference_free(folder / "routes")
    routed = SparseEncoder(str(path), **LOCAL)
    found["routed_query"] = {"fingerprint": heads.fingerprint(path), **sparse(routed.encode_query(facts.TEXTS))}
    found["routed_document"] = sparse(routed.encode_document(facts.TEXTS[:3]))
    found["routed_similarity"] = texts.rounded(
        routed.similarity(routed.encode_query(facts.TEXTS), routed.encode_document(facts.TEXTS))
    )
    for name, normalize in (("csr", False), ("csr_normalize", True)):
        path = heads.build_csr(folder / name, normalize)
        csr = SparseEncoder(str(path), **LOCAL)
        found[name] = {"fingerprint": heads.fingerprint(path), **sparse(csr.encode(facts.TEXTS))}
    found["csr_3"] = sparse(csr.encode(facts.TEXTS, max_active_dims=3))
    rows = model.encode(facts.TEXTS)
    first, second = model.encode(facts.TEXTS[:3]), model.encode(facts.TEXTS[3:])
    for name in ("cosine", "dot", "euclidean", "manhattan"):
        model.similarity_fn_name = name
        found[f"similarity_{name}"] = {
            "matrix": texts.rounded(model.similarity(rows, rows)),
            "pairwise": texts.rounded(model.similarity_pairwise(first, second)),
        }
    found["decode"] = [[[token, texts.rounded(weight)] for token, weight in row] for row in model.decode(rows, top_k=5)]
    found["sparsity"] = model.sparsity(rows)
    found["intersection"] = sparse(model.intersection(rows[0], rows))
    return found


def sparse(rows: torch.Tensor) -> dict[str, Any]:
    """(N, V) or (V,) sparse -> indices and values of each row, and the smallest value over its row's largest."""
    rows = rows.coalesce().to_dense()
    found: dict[str, Any] = {"width": rows.shape[-1], "rows": []}
    smallest = 1.0
    for row in rows.reshape(-1, rows.shape[-1]):
        at = row.nonzero().ravel()
        values = row[at]
        found["rows"].append([at.tolist(), texts.rounded(values)])
        if len(values):
            smallest = min(smallest, (values.abs().min() / values.abs().max()).item())
    return found | {"smallest": texts.rounded(smallest)}


def record_late(folder: Path) -> dict[str, Any]:
    """Token vectors of queries and documents from a saved folder, for each family."""
    found = {}
    for family in ("bert", "modernbert", "roberta", "xlm-roberta", "distilbert"):
        path = heads.build_late(family, folder / family)
        model = MultiVectorEncoder(str(path), **LOCAL)
        found[family] = {"fingerprint": heads.fingerprint(path), **both(model)}
    return found


def both(model: MultiVectorEncoder) -> dict[str, Any]:
    """Queries and documents of the model, and what their similarity is."""
    queries, documents = model.encode_query(facts.TEXTS), model.encode_document(facts.TEXTS)
    return {
        "prompts": model.prompts,
        "query": vectors(queries),
        "document": vectors(documents),
        "maxsim": texts.rounded(model.similarity(queries, documents)),
    }


def vectors(items: list[torch.Tensor]) -> dict[str, Any]:
    """Token vectors -> their shapes, the first two dimensions of each token, and sums over each item."""
    return {
        "shapes": [list(item.shape) for item in items],
        "heads": [texts.rounded(item[:, :2]) for item in items],
        "sums": texts.rounded([item.double().sum().item() for item in items]),
        "absolute_sums": texts.rounded([item.double().abs().sum().item() for item in items]),
    }


def record_multi_vector(folder: Path) -> dict[str, Any]:
    """Expansion of queries, other layouts, conversion, pooling of tokens, the scores."""
    found: dict[str, Any] = {}
    expansions = {
        "fixed": {"strategy": "fixed", "attend": False, "length": 16},
        "fixed_attend": {"strategy": "fixed", "attend": True, "length": 16},
        "fixed_token": {"strategy": "fixed", "attend": True, "token": "[UNK]", "length": 16},
        "min": {"strategy": "min", "attend": False, "length": 12},
        "min_attend": {"strategy": "min", "attend": True, "length": 12},
    }
    for name, expansion in expansions.items():
        model = MultiVectorEncoder(str(heads.build_late("bert", folder / name, query_expansion=expansion)), **LOCAL)
        found[f"expansion_{name}"] = vectors(model.encode_query(facts.TEXTS))
    path = heads.build_late("roberta", folder / "roberta", query_expansion=expansions["fixed"])
    found["expansion_roberta"] = vectors(MultiVectorEncoder(str(path), **LOCAL).encode_query(facts.TEXTS))
    model = MultiVectorEncoder(
        str(heads.build_late("bert", folder / "cut", query_length=6, document_length=9)), **LOCAL
    )
    found["lengths"] = both(model)
    others = {
        "pylate": heads.build_pylate, "stanford": heads.build_stanford, "converted": heads.build_sentence_dense,
        "pylate_plain": lambda at: heads.build_pylate(at, do_query_expansion=False, skiplist_words=[]),
        "stanford_attend": lambda at: heads.build_stanford(at, attend_to_mask_tokens=True, mask_punctuation=False),
        "pooled": lambda at: heads.build_late("bert", at, pooled=True),
    }  # fmt: skip
    for name, build in others.items():
        path = build(folder / name)
        model = MultiVectorEncoder(str(path), **LOCAL)
        found[name] = {
            "fingerprint": heads.fingerprint(path),
            "parts": [type(part).__name__ for part in model],
            "max_seq_length": model.max_seq_length,
            **both(model),
        }
    model = MultiVectorEncoder(str(heads.build_late("bert", folder / "plain")), **LOCAL)
    queries, documents = model.encode_query(facts.TEXTS), model.encode_document(facts.TEXTS)
    pooling = HierarchicalTokenPooling(pool_factor=3, num_protected_tokens=2)
    found["pooled_by_call"] = vectors(model.encode_document(facts.TEXTS, token_pooling=pooling))
    found["pairwise"] = texts.rounded(model.similarity_pairwise(queries, documents))
    model.similarity_fn_name = "meanmaxsim"
    found["meanmaxsim"] = texts.rounded(model.similarity(queries, documents))
    found["meanmaxsim_pairwise"] = texts.rounded(model.similarity_pairwise(queries, documents))
    return found


def record_facts(folder: Path) -> dict[str, Any]:
    """The outcome of every call of ``encoder_facts``."""
    found: dict[str, Any] = {}
    path = heads.build_classifier("bert", folder / "one")
    found["cross"] = outcomes(facts.CROSS, CrossEncoder, path)
    path = heads.build_classifier("bert", folder / "three", 3)
    found["cross_labels"] = outcomes(facts.CROSS_LABELS, CrossEncoder, path)
    path = heads.build_masked("bert", folder / "masked")
    model = SparseEncoder(str(path), **LOCAL)
    rows = model.encode(["the cat", "a dog"])
    more: dict[str, Any] = {
        "rows": rows, "dense": rows.to_dense(), "SpladePooling": SpladePooling,
        "routed": SparseEncoder(str(heads.build_inference_free(folder / "routes")), **LOCAL),
        "csr": SparseEncoder(str(heads.build_csr(folder / "csr")), **LOCAL),
    }  # fmt: skip
    found["sparse"] = outcomes(facts.SPARSE, SparseEncoder, path, more)
    path = heads.build_late("bert", folder / "late")
    more = {
        "tokens": MultiVectorEncoder(str(path), **LOCAL).encode(["the cat", "a dog sat"]), "Transformer": Transformer,
        "HierarchicalTokenPooling": HierarchicalTokenPooling, "LambdaTokenPooling": LambdaTokenPooling,
    }  # fmt: skip
    found["late"] = outcomes(facts.LATE, MultiVectorEncoder, path, more)
    return found


def outcomes(
    calls: dict[str, str], family: type[Any], path: Path, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    found = {}
    for call, says in calls.items():
        names = {"m": family(str(path), **LOCAL), "cls": family, "path": str(path), **(more or {})}
        found[call] = facts.outcome(call, names)
        if says not in {"", facts.ACCIDENT} and says not in found[call].get("says", ""):
            print(f"{call}: expected {says!r}, found {found[call]}")
        if says == facts.ACCIDENT and "raises" not in found[call]:
            print(f"{call}: no error, {found[call]}")
    return found


def record_opened(folder: Path) -> dict[str, Any]:
    """Which modules, prompts and similarity each encoder takes from each kind of folder."""
    found: dict[str, Any] = {}
    for name, build in heads.SOURCES.items():
        path = build(folder / name)
        found[name] = {kind.__name__: opened(kind, path) for kind in heads.encoders()}
    return found


def opened(kind: type[Any], path: Path) -> dict[str, Any]:
    try:
        model = kind(str(path), **LOCAL)
    except Exception as error:
        return {"raises": type(error).__name__, "says": str(error)[:160]}
    return heads.summary(model)


def main(out: Path) -> None:
    """Record everything into ``out``."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    logging.disable(logging.WARNING)
    inputs = {"pairs": facts.PAIRS, "texts": facts.TEXTS, "documents": facts.DOCUMENTS, "templates": facts.TEMPLATES}
    golden: dict[str, Any] = {"versions": versions(), "inputs": {k: texts.digest(v) for k, v in inputs.items()}}
    sections = {
        "classifiers": record_classifiers, "cross": record_cross, "answering": record_answering,
        "templates": record_templates, "masked": record_masked, "sparse": record_sparse, "late": record_late,
        "multi_vector": record_multi_vector, "opened": record_opened,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, record in sections.items():
            golden[name] = record(Path(folder) / name)
        golden |= {f"facts_{name}": found for name, found in record_facts(Path(folder) / "facts").items()}
    write(out, golden)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "golden_encoders.json")
