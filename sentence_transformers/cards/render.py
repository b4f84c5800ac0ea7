"""From facts to a card: everything that the template fills in, as Markdown. The words are those of ``template.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from . import environment, evaluation, history, losses
from .datasets import SAMPLE, Facts
from .guard import logged
from .markdown import code, escape, fence, listing, number, table

if TYPE_CHECKING:
    from .base import ModelCardData

DOCS = "https://www.sbert.net/docs"


def card(data: ModelCardData, model: Any) -> str:
    """The whole card of a model. What fails is left out."""
    facts = _opening(data, model)
    parts: tuple[tuple[str, Callable[[], Facts]], ...] = (
        ("what the model is", lambda: _about(data, model)),
        ("its example code", lambda: {"usage": fence(data.usage_of(model), "python")}),
        ("evaluations", lambda: _evaluations(data)),
        ("the training data", lambda: _datasets(data)),
        ("the training", lambda: _training(data)),
        ("what to cite", lambda: {"citations": _citations(data)}),
    )
    for what, part in parts:
        with logged(what):
            facts.update(part())
    # the metadata is no Markdown: a blank line in it may be part of a text
    return f"---\n{yaml(data.header(model))}\n---\n\n{_tidy(_template().render(facts))}"


def yaml(metadata: Mapping[str, Any]) -> str:
    """Metadata as a block of YAML."""
    from huggingface_hub import CardData

    return CardData(**metadata).to_yaml().rstrip("\n")


@cache
def _template() -> Any:
    from jinja2 import Environment  # comes with torch

    text = resources.files(__package__).joinpath("template.md").read_text(encoding="utf-8")
    # no escaping here: that is for HTML, and texts of others are escaped where they become Markdown
    return Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False).from_string(text)


def _tidy(text: str) -> str:
    """No more than one blank line in a row, none of which is in a block of code."""
    lines: list[str] = []
    fenced = ""
    for line in text.splitlines():
        mark = line[: len(line) - len(line.lstrip("`"))]
        if not fenced and len(mark) >= 3:
            fenced = mark
        elif fenced and line == fenced:
            fenced = ""
        if fenced or line.strip() or (lines and lines[-1].strip()):
            lines.append(line if fenced else line.rstrip())
    return "\n".join(lines).rstrip("\n") + "\n"


def _opening(data: ModelCardData, model: Any) -> Facts:
    return {
        "title": _one_line(data.title(model)),
        "sentence": data.sentence_of(model),
        "task": data.task_of(model),
        "family_tag": data.family_tag,
        "docs": f"{DOCS}/{data.docs}",
        "base_model": _base_model(data),
        "trained_on": listing([_named(one) for one in data.train_datasets if _named(one)]),
        "is_trained": data.is_trained,
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _base_model(data: ModelCardData) -> str:
    if data.base_model is None:
        return ""
    return f"[{data.base_model}](https://huggingface.co/{data.base_model})"


def _named(dataset: Any) -> str:
    """A dataset by name, with a link where it is on the Hub; "" without a name."""
    if isinstance(dataset, str):
        return escape(dataset)
    name, repo = dataset.get("name"), dataset.get("id")
    if repo:
        return f"[{escape(name or repo)}](https://huggingface.co/datasets/{repo})"
    return escape(name or "")


def _about(data: ModelCardData, model: Any) -> Facts:
    found = {"Model Type": data.kind(model), **data.facts(model)}
    if data.base_model:
        at = f" at {code(data.base_model_revision)}" if data.base_model_revision else ""
        found = {"Model Type": found.pop("Model Type"), "Base Model": _base_model(data) + at, **found}
    known = {
        "Training Data": listing([_named(one) for one in data.train_datasets if _named(one)]),
        "Language": ", ".join(data.language or ()),
        "License": data.license or "",
    }
    found.update({name: escape(value) if name != "Training Data" else value for name, value in known.items() if value})
    labels = [[escape(one["Label"]), escape(one["Examples"])] for one in data.label_example_list]
    return {
        "facts": found,
        "architecture": fence(repr(model)),
        "labels": table(["Label", "Examples"], labels) if labels else "",
    }


def _evaluations(data: ModelCardData) -> Facts:
    shown = [
        {
            "description": escape(one.description),
            "names": listing(one.names, code),
            "evaluator": one.evaluator,
            "config": fence(one.config, "json") if one.config else "",
            "table": one.table,
        }
        for one in evaluation.sections(data.evaluations)
    ]
    return {"evaluations": shown}


def _datasets(data: ModelCardData) -> Facts:
    return {
        "train_datasets": [_dataset(one) for one in data.train_datasets],
        "eval_datasets": [_dataset(one) for one in data.eval_datasets],
    }


def _dataset(one: Any) -> Facts:
    facts: Facts = {"name": one} if isinstance(one, str) else one
    lines = []
    if facts.get("id"):
        at = f" at revision {code(facts['revision'])}" if facts.get("revision") else ""
        lines.append(f"Data: {_named({**facts, 'name': facts['id']})}{at}")
    for key, title in (("config", "Subset"), ("split", "Split")):
        if facts.get(key):
            lines.append(f"{title}: {code(facts[key])}")
    if facts.get("size") is not None:
        lines.append(f"Size: {facts['size']:,} rows")
    if facts.get("columns"):
        lines.append(f"Columns: {listing(facts['columns'], code)}")
    size = facts.get("size")
    loss = facts.get("loss") or {}
    return {
        "title": escape(facts.get("name") or "Unnamed Dataset"),
        "lines": lines,
        "stats_table": facts.get("stats_table", ""),
        "sampled": f"{SAMPLE if size is None else min(SAMPLE, size)} rows",
        "examples_table": facts.get("examples_table", ""),
        "loss": escape(loss.get("fullname", "")),
        "loss_config": fence(loss["config"], "json") if loss.get("config") else "",
    }


def _training(data: ModelCardData) -> Facts:
    rows = data.training_logs
    best = data.best_model_step
    return {
        "all_hyperparameters": history.list_of(data.all_hyperparameters),
        "non_default_hyperparameters": history.list_of(data.non_default_hyperparameters),
        "log": history.log_table(rows, best) if rows else "",
        "log_rows": len(rows),
        "log_is_long": len(rows) > history.FEW_ROWS,
        "log_has_best": best is not None and any(row["Step"] == best for row in rows),
        "emissions": _emissions(data.co2_eq_emissions),
        "times": {name: history.duration(seconds) for name, seconds in data.durations.items()},
        "versions": environment.titled(data.version),
    }


def _emissions(found: Mapping[str, Any]) -> dict[str, str]:
    if not found:
        return {}
    shown = {
        "Energy": f"{found['energy_consumed']:.3f} kWh",
        "Carbon": f"{found['emissions'] / 1000:.3f} kg of CO2",
        "Hours": number(found["hours_used"]),
        "In a cloud": "yes" if found.get("on_cloud") else "no",
    }
    hardware = (("GPU", "hardware_used"), ("CPU", "cpu_model"))
    shown.update({title: escape(str(found[key])) for title, key in hardware if key in found})
    if "ram_total_size" in found:
        shown["Memory"] = f"{float(found['ram_total_size']):.2f} GB"
    return shown


def _citations(data: ModelCardData) -> Sequence[tuple[str, str]]:
    every = {losses.LIBRARY: losses.LIBRARY_CITATION, **data.citations}
    return [(escape(name), fence(text, "bibtex")) for name, text in losses.once_each(every)]
