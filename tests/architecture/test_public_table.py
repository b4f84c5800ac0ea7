"""Every row of the table of public names resolves, by every path it has; old paths say so once."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pickle
import subprocess
import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from unittest import mock

import pytest

import sentence_transformers
from sentence_transformers import _lazy
from sentence_transformers._public import (
    ALIASES,
    CROSS_MODULES,
    DEPRECATED,
    LATE_MODULES,
    MODULES,
    NAMES,
    ROOT,
    SAVE_AS,
    SPARSE_MODULES,
)
from sentence_transformers.hub import trust
from tests.architecture.layers import CHECKOUT

ROWS = [(path, name) for path, rows in NAMES.items() for name in rows]
OTHER_NAME = {  # a second public name of the same object
    "Asym": "Router",
    "BaseModel": "Encoder",
    "BaseModelCardData": "ModelCardData",
    "ModelCardCallback": "BaseModelCardCallback",
    "SentenceEvaluator": "BaseEvaluator",
    **{
        f"{family}ModelCardCallback": "BaseModelCardCallback"
        for family in ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder")
    },
    "information_retrieval": "semantic_search",
    "_convert_to_batch": "to_batch",
    "_convert_to_batch_tensor": "to_batch_tensor",
    "_convert_to_tensor": "to_tensor",
    "_move_tensors_to_cpu": "move_tensors_to_cpu",
}


def absolute(path: str) -> str:
    return f"{ROOT}.{path}" if path else ROOT


def fresh(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new interpreter, where no path has been imported yet."""
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


def quiet_import(path: str) -> types.ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(path)


OWN_PATH = {
    name: path for rows in (MODULES, SPARSE_MODULES, CROSS_MODULES, LATE_MODULES) for name, (_, path) in rows.items()
}
"""Class of a module -> where it is importable from since 5.4."""

# --- the rows


@pytest.mark.parametrize(("path", "name"), ROWS)
def test_a_row_resolves_to_the_object_of_that_name(path: str, name: str) -> None:
    value = getattr(importlib.import_module(absolute(path)), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__name__ == OTHER_NAME.get(name, name)
    else:
        assert value is not None and not inspect.ismodule(value)


@pytest.mark.parametrize("target", sorted({row for rows in NAMES.values() for row in rows.values()}))
def test_a_target_is_defined_in_the_file_that_the_table_names(target: str) -> None:
    file, _, name = target.partition(":")
    value = _lazy.resolve(target)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == absolute(file), name


@pytest.mark.parametrize("path", sorted(NAMES))
def test_all_is_the_sorted_rows(path: str) -> None:
    module = importlib.import_module(absolute(path))
    assert module.__all__ == sorted(NAMES[path])
    assert set(module.__all__) <= set(dir(module))


OF_TWO_FAMILIES = (*("CachedMultipleNegativesRankingLoss", "MSELoss", "MarginMSELoss", "MultipleNegativesRankingLoss"),)
"""Losses of rerankers and of embeddings that have one name."""


def test_one_name_means_one_object_wherever_it_is_a_row() -> None:
    targets: dict[str, set[str]] = {}
    for rows in NAMES.values():
        for name, target in rows.items():
            targets.setdefault(name, set()).add(target)
    for name in OF_TWO_FAMILIES:
        assert {target.split(".")[1] == "cross" for target in targets.pop(name)} == {True, False}
    assert {name: found for name, found in targets.items() if len(found) > 1} == {}


def test_no_path_is_described_twice() -> None:
    assert not set(NAMES) & set(ALIASES)
    assert not set(NAMES) & set(DEPRECATED)
    assert not set(ALIASES) & set(DEPRECATED)


@pytest.mark.parametrize("path", sorted({*ALIASES.values(), *DEPRECATED.values()} - set(NAMES) - set(ALIASES)))
def test_another_name_is_never_that_of_a_package_with_files(path: str) -> None:
    # Python would load the files in it a second time, under the other name
    assert (CHECKOUT / ROOT).joinpath(*path.split(".")).with_suffix(".py").is_file()


PUBLISHED = {"evaluation", "losses"}
"""Packages of ours that answer for their rows themselves."""


def test_a_package_that_publishes_itself_shows_its_rows_and_its_files() -> None:
    for path in PUBLISHED:
        code = (
            f"import {ROOT}.{path} as package, importlib; name = package.__all__[0]; "
            f"assert getattr(package, name).__name__; assert importlib.import_module('{ROOT}.{path}.base').__file__; "
            f"from {ROOT} import {path} as again; assert again is package"
        )
        assert fresh(code).stderr == ""


def test_a_file_of_a_package_is_run_once_whatever_the_package_is_called() -> None:
    for path in PUBLISHED:
        for names in ("other, own", "own, other"):
            code = (
                f"from importlib import import_module; other, own = '{ROOT}.sentence_transformer.{path}.base', "
                f"'{ROOT}.{path}.base'; first, second = {names}; "
                "assert import_module(first) is import_module(second)"
            )
            assert fresh(code).stderr == ""


@pytest.mark.parametrize("path", sorted({*ALIASES, *DEPRECATED, *NAMES} - {"", "backend", *PUBLISHED}))
def test_no_folder_or_file_of_ours_hides_a_public_path(path: str) -> None:
    package = CHECKOUT / ROOT
    assert not package.joinpath(*path.split(".")).with_suffix(".py").exists()
    assert not package.joinpath(*path.split("."), "__init__.py").exists()


# --- other paths of the same thing


@pytest.mark.parametrize(("path", "file"), sorted(ALIASES.items()))
def test_an_alias_is_the_same_module(path: str, file: str) -> None:
    module = importlib.import_module(absolute(path))
    assert module is importlib.import_module(absolute(file))
    assert module.__name__ == module.__spec__.name == absolute(file)


@pytest.mark.parametrize(("old", "new"), sorted(DEPRECATED.items()))
def test_an_old_path_is_the_new_module(old: str, new: str) -> None:
    assert quiet_import(absolute(old)) is importlib.import_module(absolute(new))


@pytest.mark.parametrize("old", sorted(path for path in DEPRECATED if path.rpartition(".")[2][0].isupper()))
def test_an_old_file_that_is_named_like_its_class_does_not_hide_the_class(old: str) -> None:
    parent, _, name = absolute(old).rpartition(".")
    before = getattr(quiet_import(parent), name)
    module = quiet_import(absolute(old))
    assert getattr(quiet_import(parent), name) is before is getattr(module, name)
    assert inspect.isclass(before)


@pytest.mark.parametrize(("real", "classic"), sorted(SAVE_AS.items()))
def test_a_saved_class_is_found_again_by_its_old_its_new_and_its_doubled_path(real: str, classic: str) -> None:
    name = classic.rpartition(".")[2]
    new = absolute(OWN_PATH[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [
            trust.module_class(path, CHECKOUT, trust_remote_code=False)
            for path in (classic, f"{classic}.{name}", f"{new}.{name}", real)
        ]
    assert found == [getattr(quiet_import(new), name)] * 4


def test_a_path_unknown_to_the_table_is_left_as_it_is() -> None:
    assert _lazy.canonical("numpy.linalg") == "numpy.linalg"
    assert _lazy.canonical(f"{ROOT}s.models") == f"{ROOT}s.models"
    assert _lazy.canonical(f"{ROOT}.models.pooling") == f"{ROOT}.modules.pooling"


# --- what Python and its users do with modules


def test_the_old_paths_import_in_every_form() -> None:
    done = fresh("""
import sentence_transformers as st
import sentence_transformers.SentenceTransformer
from sentence_transformers import SentenceTransformer, SimilarityFunction, models, quantize_embeddings, util
from sentence_transformers.SentenceTransformer import SentenceTransformer as S2
from sentence_transformers.sentence_transformer.model import SentenceTransformer as S3
assert SentenceTransformer is S2 is S3 is st.SentenceTransformer, st.SentenceTransformer
from sentence_transformers.model_card import SentenceTransformerModelCardData
assert SentenceTransformerModelCardData is st.SentenceTransformerModelCardData
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules.pooling import Pooling
from sentence_transformers.models import Transformer as T2, Pooling as P2
assert T2 is Transformer is models.Transformer and P2 is Pooling is models.Pooling
from sentence_transformers.models.Pooling import Pooling as P3
assert P3 is Pooling is models.Pooling
from sentence_transformers.util import cos_sim
from sentence_transformers.util.similarity import cos_sim as c2
from sentence_transformers.similarity_functions import cos_sim as c3, SimilarityFunction as F2
assert cos_sim is c2 is c3 is st.util.similarity.cos_sim and F2 is SimilarityFunction
from sentence_transformers.quantization import quantize_embeddings as q2
assert q2 is quantize_embeddings
exec("from sentence_transformers.models import *")
assert locals()["Pooling"] is Pooling
""")
    assert done.returncode == 0, done.stderr


def test_an_old_path_warns_once_and_names_the_line_of_the_caller() -> None:
    old, new = f"{ROOT}.models", f"{ROOT}.sentence_transformer.modules"
    done = fresh(f"import {old}\nimport {old}\nfrom {ROOT} import models", "-W", "always")
    message = (
        f"Importing from '{old}' is deprecated and will be removed in a future version. Please use '{new}' instead."
    )
    assert done.stderr.splitlines()[0] == f"<string>:1: DeprecationWarning: {message}"
    assert done.stderr.count("DeprecationWarning") == 1


def test_an_old_path_reached_as_an_attribute_names_the_line_of_the_caller() -> None:
    done = fresh("import sentence_transformers\n\nsentence_transformers.quantization", "-W", "always")
    assert done.stderr.startswith("<string>:3: DeprecationWarning: Importing from 'sentence_transformers.quantization'")


@pytest.mark.parametrize("old", sorted(DEPRECATED))
def test_every_old_path_warns(old: str) -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated and will be removed") as caught:
        sys.modules.pop(absolute(old), None)
        importlib.import_module(absolute(old))
    texts = [str(item.message) for item in caught]
    assert any(f"'{absolute(old)}'" in text and f"'{absolute(DEPRECATED[old])}'" in text for text in texts)


def test_new_paths_do_not_warn() -> None:
    code = "import sentence_transformers.util.similarity, sentence_transformers.base.modules.module"
    assert fresh(code, "-W", "error").returncode == 0


def test_an_unknown_name_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Nope'"):
        exec("from sentence_transformers import Nope")
    with pytest.raises(AttributeError, match="module 'sentence_transformers.util' has no attribute 'nope'"):
        _ = importlib.import_module("sentence_transformers.util").nope


@pytest.mark.parametrize("path", ["nope", "util.nope", "models.nope", "sentence_transformer.modules.nope"])
def test_an_unknown_path_is_not_found(path: str) -> None:
    assert find_spec(absolute(path)) is None
    with pytest.raises(ModuleNotFoundError):
        quiet_import(absolute(path))


def test_a_patch_through_a_public_path_reaches_the_file() -> None:
    from sentence_transformers.ops import similarity

    with mock.patch("sentence_transformers.util.similarity.cos_sim", lambda a, b: 2):
        assert similarity.cos_sim(0, 0) == 2


def test_public_classes_are_pickled_by_the_file_they_are_in() -> None:
    from sentence_transformers.models import Pooling

    assert pickle.loads(pickle.dumps(Pooling)) is Pooling
    assert f"class {Pooling.__name__}" in inspect.getsource(Pooling)


def test_many_threads_see_one_namespace_and_one_object() -> None:
    done = fresh("""
import importlib, sys
from concurrent.futures import ThreadPoolExecutor
import sentence_transformers
sys.setswitchinterval(1e-6)
def get(number):
    path = ["util", "similarity_functions"][number % 2]
    return id(importlib.import_module(f"sentence_transformers.{path}").SimilarityFunction)
with ThreadPoolExecutor(16) as threads:
    assert len(set(threads.map(get, range(256)))) == 1
""")
    assert done.returncode == 0, done.stderr


def test_many_threads_in_this_process_resolve_one_row_to_one_object() -> None:
    def get(_: int) -> int:
        return id(importlib.import_module("sentence_transformers.util").cos_sim)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(get, range(64)))) == 1


# --- the version and the stub


def test_the_version_stands_in_one_place() -> None:
    from sentence_transformers import _version

    assert sentence_transformers.__version__ is _version.__version__
    assert int(_version.__version__.partition(".")[0]) >= 7
    assert _version.__version__ not in (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")


def test_models_are_sought_under_the_organisation_of_the_hub() -> None:
    assert sentence_transformers.__MODEL_HUB_ORGANIZATION__ == "sentence-transformers"


def test_the_stub_tells_type_checkers_what_the_table_says() -> None:
    tree = ast.parse((CHECKOUT / ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    imported = {
        alias.name: f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith(f"{ROOT}.")
        for alias in node.names
        if alias.name != "__version__"
    }
    modules = {
        node.target.id
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("__")
    }
    assert imported == {name: absolute(target) for name, target in NAMES[""].items()}
    children = {path for path in (*NAMES, *ALIASES, *DEPRECATED) if path and "." not in path}
    assert modules == children - set(NAMES[""])


# --- methods from above


def test_every_late_method_is_a_function_that_takes_the_object_first() -> None:
    found = []
    for name in ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder"):
        kind = getattr(sentence_transformers, name)
        for method, value in vars(kind).items():
            if isinstance(value, _lazy.Late):
                function = getattr(kind, method)
                assert inspect.isfunction(function) and function.__name__ == method
                assert next(iter(inspect.signature(function).parameters)) == "model"
                found.append(method)
    assert {"fit", "old_fit", "smart_batching_collate"} <= set(found)


def test_opening_an_encoder_imports_nothing_from_above() -> None:
    code = (
        f"import sys; from {ROOT} import SentenceTransformer; "
        f"assert not [name for name in sys.modules if name.startswith('{ROOT}.training')]"
    )
    assert fresh(code).stderr == ""
