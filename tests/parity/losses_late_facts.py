"""Cases of the losses on token vectors, for the recorder and for the tests.

Token vectors are made by a rule, and the model hands them on; a few cases train a small model on texts. Knows nothing
of either implementation: classes and scores are looked up by name in a namespace.
"""

from __future__ import annotations

from typing import Any

import torch
from losses_pairs_facts import described
from torch import Tensor, nn

ROWS, WIDTH = 5, 4
TOKENS = ((4, 2, 3, 1, 4), (6, 5, 3, 6, 1), (5, 1, 4, 2, 5), (2, 3, 3, 1, 2))
"""Of each column how many tokens its inputs have; the first are queries."""
BARELY = ([1, 1, 0, 1], [1, 0, 1, 1, 0, 1])
"""Which tokens of the first two columns count where a model leaves some out."""

MARGINS = torch.tensor([0.5, -1.0, 2.0, 0.25, 0.0], dtype=torch.float64)
SCORES = torch.tensor([[1.0, 2, 0], [3, 1, 1], [0, 0.5, 2], [0.25, 1, -1], [2, 2, 2]], dtype=torch.float64)
RANKING = "MultiVectorMultipleNegativesRankingLoss"
CACHED = "CachedMultiVectorMultipleNegativesRankingLoss"
KL, MARGIN = "MultiVectorDistillKLDivLoss", "MultiVectorMarginMSELoss"

# name -> class, arguments (scores by name, or name and settings), number of columns, labels
CASES: dict[str, tuple[str, dict[str, Any], int, Tensor | None]] = {
    **{f"ranking, {columns} columns": (RANKING, {}, columns, None) for columns in (2, 3, 4)},
    "ranking, scale": (RANKING, {"scale": 2.5}, 3, None),
    "ranking, small parts": (RANKING, {"mini_batch_size": 2, "score_mini_batch_size": 2}, 3, None),
    "ranking, mean": (RANKING, {"similarity_fct": "mean_colbert_scores"}, 3, None),
    "ranking, xtr": (RANKING, {"similarity_fct": ("XTRScores", 4)}, 3, None),
    "ranking, xtr, parts": (RANKING, {"similarity_fct": ("XTRScores", 4), "score_mini_batch_size": 2}, 4, None),
    "cached": (CACHED, {}, 3, None),
    "cached, small parts": (CACHED, {"mini_batch_size": 2}, 4, None),
    "cached, tokens": (CACHED, {"mini_batch_num_tokens": 7, "score_mini_batch_size": 1, "scale": 0.5}, 3, None),
    "cached, xtr": (CACHED, {"mini_batch_size": 2, "similarity_fct": ("XTRScores", 4)}, 3, None),
    "kl": (KL, {}, 4, SCORES),
    "kl, two documents": (KL, {"temperature": 2.0, "mini_batch_size": 2}, 3, SCORES[:, :2]),
    "kl, temperatures": (KL, {"student_temperature": 3.0, "teacher_temperature": 0.5}, 4, SCORES),
    "kl, mean": (KL, {"similarity_fct": "mean_colbert_kd_scores"}, 4, SCORES),
    "kl, xtr": (KL, {"similarity_fct": ("XTRKDScores", 4)}, 4, SCORES),
    "margin": (MARGIN, {}, 3, MARGINS),
    "margin, scores": (MARGIN, {"mini_batch_size": 2}, 4, SCORES),
    "margin, mean": (MARGIN, {"similarity_fct": "mean_colbert_scores_pairwise"}, 4, SCORES[:, :2]),
}

# name -> settings of the small model, case
TRAINED: dict[str, tuple[dict[str, Any], str]] = {
    "texts": ({}, "ranking, 3 columns"),
    "texts, cached": ({}, "cached, small parts"),
    "texts, kl": ({}, "kl, two documents"),
    "texts, margin": ({}, "margin"),
    "expanded": ({"query_expansion": {"strategy": "fixed", "length": 9, "attend": False}}, "ranking, 3 columns"),
    "expanded, cached": ({"query_expansion": {"strategy": "fixed", "length": 9, "attend": True}}, "cached"),
}
TEXTS = (
    ["hello world", "one", "a b c d", "two three", "where is it"],
    ["the world, hello!", "one two three four", "e", "three: two", "it is here, and there."],
    ["nothing", "five six", "c d e f g.", "one, two", "hello"],
    ["a", "b c", "d e f", "hello hello", "world"],
)


def features(place: int, barely: bool = False) -> dict[str, Any]:
    """Of one column; ``barely``: the model leaves tokens out."""
    lengths = torch.tensor(TOKENS[place])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    i = torch.arange(ROWS, dtype=torch.float64)[:, None, None]
    t = torch.arange(mask.shape[1], dtype=torch.float64)[:, None]
    j = torch.arange(WIDTH, dtype=torch.float64)
    given = torch.sin(1.3 * i + 2.1 * t + 0.7 * j + place) + 0.3 * torch.cos(i * j + t * t + 2 * place)
    found = {"given": given, "attention_mask": mask.long(), "input_ids": 5 * mask.long()}
    if barely:
        found["kept"] = mask & torch.tensor(BARELY[place], dtype=torch.bool)
    return found


class Given(nn.Module):
    """Hands on the token vectors in its features, and remembers the tasks that it was asked for."""

    similarity_fn_name = "maxsim"

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.tasks: list[tuple[Any, Any]] = []

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        self.tasks.append((task, len(features["given"])))
        mask = features.get("kept", features["attention_mask"])
        return {**features, "token_embeddings": features["given"] + self.shift, "attention_mask": mask}


def built(losses: Any, scoring: Any, name: str, model: nn.Module) -> nn.Module:
    """The loss of one of ``CASES``; the namespaces have its class and its scores."""
    kind, given, _, _ = CASES[name]
    arguments = dict(given)
    scores = arguments.get("similarity_fct")
    if scores is not None:
        chosen = getattr(scoring, scores if isinstance(scores, str) else scores[0])
        arguments["similarity_fct"] = chosen if isinstance(scores, str) else chosen(scores[1])
    loss: nn.Module = getattr(losses, kind)(model, **arguments)
    return loss


def evaluated(losses: Any, scoring: Any, name: str) -> dict[str, Any]:
    """The loss of a case, and what its gradients are like."""
    columns = [features(place) for place in range(CASES[name][2])]
    for column in columns:
        column["given"].requires_grad_()
    value = built(losses, scoring, name, Given())(columns, CASES[name][3])
    value.backward()
    return {"loss": value.item(), "gradients": [described(column["given"].grad) for column in columns]}


def trained(losses: Any, scoring: Any, name: str, model: Any) -> dict[str, Any]:
    """The loss of one of ``TRAINED``; ``model``: a small encoder in float64, in evaluation mode."""
    case = TRAINED[name][1]
    tasks = ("query", "document", "document", "document")
    columns = [
        model.preprocess(texts, prompt=model.prompts[task], task=task)
        for task, texts in zip(tasks[: CASES[case][2]], TEXTS, strict=False)
    ]
    model.zero_grad()
    value = built(losses, scoring, case, model)(columns, CASES[case][3])
    value.backward()
    gradients = {
        name: described(parameter.grad)
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
        and name.endswith(("linear.weight", "output.dense.weight", "word_embeddings.weight"))
    }
    return {"loss": value.item(), "gradients": gradients}
