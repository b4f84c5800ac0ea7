"""A training of another family from a file: its losses, evaluators and models; what is refused before one is opened."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny_heads
import torch
from datasets import Dataset

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from sentence_transformers.losses.base import Loss
from sentence_transformers.ops.late_scores import XTRScores, mean_colbert_scores
from sentence_transformers.training.configured import plan
from sentence_transformers.training.configured.data import DatasetPlan
from sentence_transformers.training.configured.document import Section
from sentence_transformers.training.configured.kinds import KINDS
from sentence_transformers.training.configured.models import ModelPlan
from tests.unit.training.configs import PAIRS, settings, write_data
from tests.unit.training.test_configured import COLUMNS

FAMILIES = ["reranker", "sparse", "multi-vector"]
INSIDE = "SparseMultipleNegativesRankingLoss"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data; what datasets caches stays out of the user's, and no model is opened by a check."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "home"
    home.mkdir()
    write_data(home)
    return home


def planned(kind: str, folder: Path, **changes: Any) -> plan.Plan:
    """A plan with a model that nobody has: what it is asked must not need one."""
    values = {**settings(Path("some-model")), "evaluators": [], "kind": kind, **changes}
    del values["arguments"]["eval_strategy"], values["arguments"]["eval_steps"]
    return plan.understood(values, folder)


# --- losses -----------------------------------------------------------------------------------------------------------

KINDS_OF_ROWS = {
    **COLUMNS,
    "grades": {"a": ["x", "y"], "b": [["z", "w"], ["u", "v", "t"]], "labels": [[1.0, 0.0], [0.0, 1.0, 2.0]]},
    "lists": {"a": ["x", "y"], "b": [["z", "w"], ["u", "v"]], "label": [1.0, 0.0]},
}
CLASS_OR_SCORE = {"pair of class", "pair and score"}
PAIRED = {"pair", *CLASS_OR_SCORE, "triplet", "triplet and margin", "triplet and scores"}
TEXTS_OR_LISTS = PAIRED | {"grades", "lists"}  # a dense, sparse or multi-vector encoder reads two texts as one, too
TEACHER = {"triplet and margin", "triplet and scores"}
SCORED = {*CLASS_OR_SCORE, "triplet and margin", "lists"}
TAKES: dict[str, dict[str, set[str]]] = {
    "reranker": {
        "BinaryCrossEntropyLoss": CLASS_OR_SCORE,
        "CrossEntropyLoss": {"pair of class"},
        "MSELoss": CLASS_OR_SCORE,
        "MarginMSELoss": TEACHER,
        "MultipleNegativesRankingLoss": PAIRED,
        "CachedMultipleNegativesRankingLoss": PAIRED,
        **dict.fromkeys(("ListNetLoss", "ListMLELoss", "PListMLELoss", "ADRMSELoss"), {"grades"}),
        **dict.fromkeys(("LambdaLoss", "RankNetLoss"), {"grades"}),
    },
    "sparse": {
        "SpladeLoss": TEXTS_OR_LISTS - {"grades"},
        "CachedSpladeLoss": TEXTS_OR_LISTS - {"grades"},
        "CSRLoss": TEXTS_OR_LISTS - {"grades"},
        "SparseMSELoss": {"vector", "triplet and scores"},
        **dict.fromkeys(("FlopsLoss", "CSRReconstructionLoss"), set()),  # parts of others
        **dict.fromkeys((INSIDE, "SparseMarginMSELoss", "SparseDistillKLDivLoss", "SparseTripletLoss"), set()),
        **dict.fromkeys(("SparseCoSENTLoss", "SparseAnglELoss", "SparseCosineSimilarityLoss"), set()),
    },
    "multi-vector": {
        "MultiVectorMultipleNegativesRankingLoss": TEXTS_OR_LISTS - {"grades"},
        "CachedMultiVectorMultipleNegativesRankingLoss": TEXTS_OR_LISTS - {"grades"},
        "MultiVectorMarginMSELoss": TEACHER,
        "MultiVectorDistillKLDivLoss": {"triplet and scores"},
    },
}
INSIDE_OF_SPLADE = {
    INSIDE: TEXTS_OR_LISTS - {"grades"},
    "SparseMarginMSELoss": TEACHER,
    "SparseDistillKLDivLoss": {"triplet and scores"},
    "SparseTripletLoss": {"triplet", *TEACHER},
    "SparseCoSENTLoss": SCORED,
    "SparseAnglELoss": {*SCORED, "triplet"},
    "SparseCosineSimilarityLoss": SCORED,
    "SparseMSELoss": {"triplet and scores"},  # not one column: there has to be a query and a document
}
SPLADE: dict[str, Any] = {"loss": INSIDE, "document_regularizer_weight": 0.1, "query_regularizer_weight": 0.1}
SETTINGS: dict[str, dict[str, Any]] = {"SpladeLoss": SPLADE, "CachedSpladeLoss": SPLADE}


def taken(made: plan.Plan, folder: Path) -> set[str]:
    """Which rows the loss of a plan takes."""
    found = set()
    for name, columns in KINDS_OF_ROWS.items():
        Dataset.from_dict(columns).to_json(folder / "some.jsonl")
        try:
            made._check_rows("", DatasetPlan.of(Section({"path": "some.jsonl"}, "train"), folder))
        except ValueError:
            continue
        found.add(name)
    return found


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in FAMILIES for name in KINDS[kind].known_losses()])
def test_every_loss_takes_the_columns_that_it_is_for_and_refuses_others(kind: str, name: str, folder: Path) -> None:
    made = planned(kind, folder, loss={name: copy.deepcopy(SETTINGS.get(name, {}))})
    assert taken(made, folder) == TAKES[kind][name]


@pytest.mark.parametrize("name", INSIDE_OF_SPLADE)
def test_a_loss_inside_of_splade_says_what_columns_it_needs(name: str, folder: Path) -> None:
    made = planned("sparse", folder, loss={"SpladeLoss": {**SPLADE, "loss": name}})
    assert taken(made, folder) == INSIDE_OF_SPLADE[name]


def test_splade_on_documents_alone_takes_one_column(folder: Path) -> None:
    own = {"loss": "SparseMSELoss", "document_regularizer_weight": 0.1, "use_document_regularizer_only": True}
    assert taken(planned("sparse", folder, loss={"SpladeLoss": own}), folder) == {"vector", "triplet and scores"}


def test_splade_inside_of_a_loss_with_one_column_says_so_of_itself(folder: Path) -> None:
    made = planned("sparse", folder, loss={"SpladeLoss": {**SPLADE, "loss": "SparseMSELoss"}})
    Dataset.from_dict(COLUMNS["vector"]).to_json(folder / "some.jsonl")
    with pytest.raises(ValueError, match=r"^loss.SpladeLoss does not take the columns of train \(a; .*a document"):
        made._check_rows("", DatasetPlan.of(Section({"path": "some.jsonl"}, "train"), folder))


def test_losses_of_a_family_come_of_the_public_table() -> None:
    for kind in FAMILIES:
        known = KINDS[kind].known_losses()
        assert set(known) == set(TAKES[kind]) and all(issubclass(one, Loss) for one in known.values())


def test_checking_a_loss_tells_nothing_and_draws_no_random_numbers(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = planned("sparse", folder, loss={"SpladeLoss": {"loss": INSIDE, "document_regularizer_weight": 0.1}})
    before = torch.get_rng_state()
    made.check()
    assert torch.equal(torch.get_rng_state(), before)
    assert "query_regularizer_weight" not in caplog.text


PAIRED_FILE = {"path": "sts.csv", "columns": ["first", "second"], "label": {"column": "stars", "divide_by": 5}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("reranker", {"loss": "CosentLoss"}, "loss: 'CosentLoss' is not known"),
    ("reranker", {"loss": "NDCGLoss1Scheme"}, "loss: 'NDCGLoss1Scheme' is not known"),
    ("sparse", {"loss": "MultipleNegativesRankingLoss"}, f"Did you mean '{INSIDE}'"),
    ("sparse", {"loss": INSIDE}, f"^loss.{INSIDE}: {INSIDE} should not be used alone. Use it with SpladeLoss"),
    ("sparse", {"loss": "FlopsLoss"}, "^loss.FlopsLoss: FlopsLoss is not intended to be used directly"),
    ("sparse", {"loss": {"SpladeLoss": {"loss": INSIDE}}}, "document_regularizer_weight must be given"),
    ("sparse", {"loss": {"SpladeLoss": {**SPLADE, "loss": "CoSENTLoss"}}}, "loss.SpladeLoss.loss: 'CoSENTLoss' is not"),
    (
        "sparse",
        {"loss": {"SpladeLoss": {**SPLADE, "document_regularizer": "L1Loss"}}},
        "loss.SpladeLoss.document_regularizer: 'L1Loss' is not known",
    ),
    ("sparse", {"loss": {"CachedSpladeLoss": {**SPLADE, "mini_batch_size": 0}}}, "mini_batch_size"),
    ("reranker", {"model": {"static": {"tokenizer": "x", "dimension": 4}}}, "model.static is not known"),
    ("sparse", {"model": {"max_seq_length": 5}}, "model.name is missing: a model's name or folder.$"),
    ("reranker", {"model": {"name": "x", "activation_fn": "Sigmoidal"}}, "model.activation_fn: 'Sigmoidal' is not kn"),
    (
        "reranker",
        {"model": {"name": "x", "num_labels": 3}, "train": PAIRED_FILE, "loss": "BinaryCrossEntropyLoss"},
        "^loss.BinaryCrossEntropyLoss: BinaryCrossEntropyLoss expects a model with 1 output label, but got .* 3",
    ),
    (
        "reranker",
        {
            "model": {"name": "x", "num_labels": 2},
            "train": {**PAIRED_FILE, "label": "stars", "where": {"stars": [3, 4]}},
            "loss": "CrossEntropyLoss",
        },
        "Target . is out of bounds",
    ),
    (
        "reranker",
        {"loss": {"LambdaLoss": {"weighting_scheme": "PListMLELambdaWeight"}}},
        "weighting_scheme: 'PListMLELambdaWeight' is not known. There are: LambdaRankScheme",
    ),
    (
        "reranker",
        {"loss": {"LambdaLoss": {"weighting_scheme": {"NDCGLoss2PPScheme": {"mi": 1}}}}},
        "weighting_scheme.NDCGLoss2PPScheme.mi is not known. There are: mu",
    ),
    ("reranker", {"loss": {"MSELoss": {"kwargs": 1}}}, "loss.MSELoss.kwargs is not known"),
    (
        "multi-vector",
        {"loss": {"MultiVectorMarginMSELoss": {"similarity_fct": "cos_sim"}}},
        "similarity_fct: 'cos_sim' is not known",
    ),
    (
        "multi-vector",
        {"loss": {"MultiVectorMarginMSELoss": {"similarity_fct": {"colbert_scores_pairwise": {"k": 1}}}}},
        "colbert_scores_pairwise is a function: it has no settings",
    ),
    (
        "multi-vector",
        {"loss": {"MultiVectorMultipleNegativesRankingLoss": {"similarity_fct": "colbert_scores_pairwise"}}},
        "does not take the columns of train .*documents_embeddings must be",
    ),
    ("multi-vector", {"evaluators": ["TripletEvaluator"]}, "Did you mean 'MultiVectorTripletEvaluator'"),
    ("reranker", {"evaluators": ["CERerankingEvaluator"]}, "'CERerankingEvaluator' is not known"),
    (
        "sparse",
        {"evaluators": ["ReciprocalRankFusionEvaluator"]},
        "needs dense_samples, which cannot be said in a file",
    ),
]


@pytest.mark.parametrize(("kind", "changes", "message"), REFUSED)
def test_what_a_family_does_not_know_is_refused(
    kind: str, changes: dict[str, Any], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelPlan, "open", lambda self: pytest.fail("a model was opened"))
    defaults = {"reranker": "MultipleNegativesRankingLoss", "sparse": {"SpladeLoss": dict(SPLADE)}}
    loss = defaults.get(kind, "MultiVectorMultipleNegativesRankingLoss")
    with pytest.raises(ValueError, match=message):
        planned(kind, folder, **{"loss": loss, **changes}).check()


def test_labels_in_lists_are_divided_and_have_no_classes(folder: Path) -> None:
    Dataset.from_dict(KINDS_OF_ROWS["grades"]).to_json(folder / "some.jsonl")

    def rows(**label: Any) -> Dataset:
        given = {"path": "some.jsonl", "label": {"column": "labels", **label}}
        return DatasetPlan.of(Section(given, "train"), folder).training_rows()

    assert rows(divide_by=2)["label"][:] == [[0.5, 0.0], [0.0, 0.5, 1.0]]
    with pytest.raises(ValueError, match="train.label.classes: the column 'labels' holds lists"):
        rows(classes=[1, 2])


# --- what is made -----------------------------------------------------------------------------------------------------


def loss_of(kind: str, folder: Path, model: Any, loss: Any) -> Any:
    return planned(kind, folder, loss=loss).open_losses(model)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    folder = tmp_path_factory.mktemp("reranker")
    tiny_heads.build_classifier("bert", folder)
    return CrossEncoder(str(folder), device="cpu")


def test_a_weighting_scheme_is_given_by_name_or_with_settings(folder: Path, reranker: CrossEncoder) -> None:
    plain = loss_of("reranker", folder, reranker, {"LambdaLoss": {"weighting_scheme": "LambdaRankScheme", "k": 3}})
    assert type(plain.weighting_scheme).__name__ == "LambdaRankScheme" and plain.k == 3
    with_settings = {"LambdaLoss": {"weighting_scheme": {"NDCGLoss2PPScheme": {"mu": 2.5}}}}
    assert loss_of("reranker", folder, reranker, with_settings).weighting_scheme.mu == 2.5
    assert loss_of("reranker", folder, reranker, {"PListMLELoss": {"lambda_weight": None}}).lambda_weight is None


def test_weights_and_activations_of_rerankers_are_given_as_numbers_and_names(
    folder: Path, reranker: CrossEncoder
) -> None:
    loss = loss_of("reranker", folder, reranker, {"BinaryCrossEntropyLoss": {"pos_weight": 4, "activation_fn": "Tanh"}})
    assert torch.equal(loss.pos_weight, torch.tensor(4.0)) and isinstance(loss.activation_fn, torch.nn.Tanh)


def test_a_regularizer_is_a_loss_of_the_same_model(folder: Path, tmp_path: Path) -> None:
    tiny_heads.build_splade(tmp_path / "splade", "max", "relu")
    model = SparseEncoder(str(tmp_path / "splade"), device="cpu")
    given = {"SpladeLoss": {**SPLADE, "document_regularizer": {"FlopsLoss": {"threshold": 3}}}}
    loss = loss_of("sparse", folder, model, given)
    assert loss.document_regularizer.threshold == 3 and loss.document_regularizer.model is model
    assert loss.loss.model is model


def test_scores_of_token_vectors_are_given_by_name(folder: Path) -> None:
    def function(given: Any) -> Any:
        part = planned(
            "multi-vector", folder, loss={"MultiVectorMultipleNegativesRankingLoss": {"similarity_fct": given}}
        )
        assert not isinstance(part.loss, dict)
        return part.loss.settings["similarity_fct"]

    assert function("mean_colbert_scores") is mean_colbert_scores
    found = function({"XTRScores": {"top_k": 7}})
    assert isinstance(found, XTRScores) and found.top_k == 7


def test_the_plan_is_described_on_one_line_each(folder: Path) -> None:
    loss = {"LambdaLoss": {"weighting_scheme": {"NDCGLoss2PPScheme": {"mu": 2}}, "k": 3}}
    lines = planned("reranker", folder, loss=loss).describe()
    assert "loss        LambdaLoss(weighting_scheme=NDCGLoss2PPScheme, k=3)" in lines


@pytest.mark.parametrize(
    ("kind", "build", "modules"),
    [
        ("reranker", None, ["Transformer"]),
        ("sparse", None, ["Transformer", "Pooling", "SparseAutoEncoder"]),
        ("sparse", "masked", ["Transformer", "SpladePooling"]),
        ("multi-vector", None, ["Transformer", "Dense", "MultiVectorMask", "Normalize"]),
    ],
)
def test_a_bare_model_gets_the_modules_of_the_family(
    kind: str, build: str | None, modules: list[str], folder: Path, tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    base = tiny_folder("bert") if build is None else tiny_heads.build_masked("bert", tmp_path / "masked")
    loss = {"reranker": "MultipleNegativesRankingLoss", "sparse": {"SpladeLoss": dict(SPLADE)}}
    made = planned(
        kind, folder, model=str(base), loss=loss.get(kind, "MultiVectorMultipleNegativesRankingLoss")
    ).model.open()
    assert [type(one).__name__ for one in made] == modules


def test_a_reranker_is_opened_with_its_labels_and_activation(folder: Path, tiny_folder: Callable[[str], Path]) -> None:
    given = {"name": str(tiny_folder("bert")), "num_labels": 3, "activation_fn": "Identity", "max_seq_length": 9}
    made = planned("reranker", folder, model=given, loss="CrossEntropyLoss").model.open()
    assert made.num_labels == 3 and made.max_seq_length == 9 and isinstance(made.activation_fn, torch.nn.Identity)


# --- evaluators -------------------------------------------------------------------------------------------------------


def evaluator(kind: str, folder: Path, **settings_of: Any) -> Any:
    loss = {"reranker": "MultipleNegativesRankingLoss", "sparse": {"SpladeLoss": dict(SPLADE)}}
    made = planned(
        kind, folder, evaluators=[settings_of], loss=loss.get(kind, "MultiVectorMultipleNegativesRankingLoss")
    )
    return made.open_evaluators()[0]


def test_pairs_of_an_evaluator_are_two_columns(folder: Path) -> None:
    named = {"sentences1": ["a", "b"], "sentences2": ["c", "d"], "labels": [1.0, 0.0]}
    Dataset.from_dict(named).to_json(folder / "n.jsonl")
    found = evaluator("reranker", folder, CrossEncoderClassificationEvaluator={"path": "n.jsonl"})
    assert found.sentence_pairs == [("a", "c"), ("b", "d")] and found.labels.tolist() == [1, 0]
    in_order = {"path": "sts.csv", "columns": ["first", "second", "stars"], "batch_size": 5}
    by_name = {**in_order, "columns": {"scores": "stars", "sentences1": "first", "sentences2": "second"}}
    for given in (in_order, by_name):
        scored = evaluator("reranker", folder, CrossEncoderCorrelationEvaluator=given)
        assert scored.sentence_pairs[0] == PAIRS[0] and scored.scores[:3] == [0, 1, 2] and scored.batch_size == 5


RANKED = {"query": ["a"], "positive": [["b"]], "documents": [["c", "b"]], "id": [1]}


def test_samples_of_a_reranker_have_negatives_or_what_a_search_found(folder: Path) -> None:
    Dataset.from_dict(RANKED).to_json(folder / "ranked.jsonl")
    Dataset.from_dict({"query": ["a"], "positive": [["b"]], "negative": [["c"]]}).to_json(folder / "negatives.jsonl")
    found = evaluator("reranker", folder, CrossEncoderRerankingEvaluator={"samples": "ranked.jsonl", "at_k": 3})
    assert found.samples == [{"query": "a", "positive": ["b"], "documents": ["c", "b"]}] and found.at_k == 3
    by_name = {"path": "ranked.jsonl", "columns": {"query": "query", "positive": "positive", "documents": "documents"}}
    assert evaluator("reranker", folder, CrossEncoderRerankingEvaluator={"samples": by_name}).samples == found.samples
    other = evaluator("reranker", folder, CrossEncoderRerankingEvaluator={"samples": "negatives.jsonl"})
    assert other.samples == [{"query": "a", "positive": ["b"], "negative": ["c"]}]


@pytest.mark.parametrize("kind", ["sparse", "multi-vector"])
def test_what_a_search_found_is_only_for_rerankers(kind: str, folder: Path) -> None:
    Dataset.from_dict({name: RANKED[name] for name in ("query", "positive", "documents")}).to_json(folder / "r.jsonl")
    name = "SparseRerankingEvaluator" if kind == "sparse" else "MultiVectorRerankingEvaluator"
    with pytest.raises(ValueError, match=f"evaluators.0.{name}.samples: {name} takes negatives, not the results"):
        evaluator(kind, folder, **{name: {"samples": "r.jsonl"}})


def test_candidates_of_a_teacher_are_columns(folder: Path) -> None:
    rows = {"queries": ["a", "b"], "documents": [["c", "d"], ["e", "f"]], "scores": [[1.0, 2.0], [3.0, 4.0]]}
    Dataset.from_dict(rows).to_json(folder / "t.jsonl")
    given = {"path": "t.jsonl", "temperature": 2}
    found = evaluator("multi-vector", folder, MultiVectorDistillationEvaluator=given)
    assert found.queries == rows["queries"] and found.documents == rows["documents"] and found.temperature == 2
    assert found.scores.tolist() == rows["scores"]


@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [
        ("sparse", "SparseInformationRetrievalEvaluator", {"max_active_dims": 5}),
        ("multi-vector", "MultiVectorInformationRetrievalEvaluator", {"chunk_elements": 5}),
    ],
)
def test_retrieval_of_a_family_is_made_of_pairs_with_its_own_settings(
    kind: str, name: str, more: dict[str, int], folder: Path
) -> None:
    given = {"path": "pairs.tsv", "columns": ["question", "answer"], "name": "faq", **more}
    found = evaluator(kind, folder, **{name: given})
    assert len(found.queries) == len(found.corpus) == len(PAIRS)
    assert all(getattr(found, key) == value for key, value in more.items())


@pytest.mark.parametrize(
    ("settings_of", "message"),
    [
        ({"path": "sts.csv", "columns": ["first", "second"]}, "expected 3 columns, for sentences1, sentences2, scores"),
        ({"path": "sts.csv", "columns": ["first", "sekond", "stars"]}, "columns: a column .* Did you mean 'second'"),
        (
            {"path": "sts.csv", "columns": {"sentences1": "first", "sentences2": "stars", "scores": "stars"}},
            "the column 'stars' shall be sentences2, .*text; but row 1 holds a whole number: 0",
        ),
        ({"path": "sts.csv", "sentence_pairs": "first"}, "sentence_pairs is two columns of the dataset"),
    ],
)
def test_evaluators_of_rerankers_that_do_not_fit_their_data_are_refused(
    settings_of: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluator("reranker", folder, CrossEncoderCorrelationEvaluator=settings_of)


def test_evaluators_of_all_families_are_known() -> None:
    assert {kind: len(one.known_evaluators()) for kind, one in KINDS.items() if kind != "dense"} == {
        "reranker": 4,
        "sparse": 9,
        "multi-vector": 5,
    }
    assert MultiVectorEncoder is KINDS["multi-vector"].named(KINDS["multi-vector"].model)
