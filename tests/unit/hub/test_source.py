"""Where a model is found, what is fetched, and how many requests that takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sentence_transformers.errors import UntrustedCodeError
from sentence_transformers.hub import cache, source
from sentence_transformers.hub.names import ORIGINAL_TRANSFORMER_MODELS
from tests.unit.hub.fake_hub import TOKEN, FakeHub

ORGANIZATION = "sentence-transformers"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_existing_folder_is_used_as_it_is(model_folder: Path) -> None:
    found = source.find(str(model_folder))
    assert found == source.Source(str(model_folder), model_folder, "folder", None)
    assert found.file("config.json", "1_Pooling") == model_folder / "1_Pooling" / "config.json"
    assert found.file("config.json", "2_Normalize") is None


def test_importing_source_trust_and_folder_loads_no_big_library() -> None:
    code = (
        "import sys; from sentence_transformers.hub import folder, push, requirements, source, trust;"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'packaging') if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["a/b/c", "./missing", "/nowhere/model", "../x", "", "a b", "C:\\model", "org/-x y"])
def test_a_name_that_cannot_be_one_of_the_hub_is_a_missing_path(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="Path .* not found"):
        source.find(name)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(NotADirectoryError, match="expected the folder of a model"):
        source.find(path)


def test_a_bare_name_gets_the_organization_unless_it_is_an_original_one() -> None:
    assert source.repository_name("all-MiniLM-L6-v2", ORGANIZATION) == "sentence-transformers/all-MiniLM-L6-v2"
    assert source.repository_name("BERT-base-uncased", ORGANIZATION) == "BERT-base-uncased"
    assert source.repository_name("acme/tiny", ORGANIZATION) == "acme/tiny"
    assert source.repository_name("tiny") == "tiny"


def test_there_are_68_original_names() -> None:
    assert len(ORIGINAL_TRANSFORMER_MODELS) == 68
    assert {"xlnet-base-cased", "ctrl", "t5-11b", "albert-xxlarge-v2"} <= ORIGINAL_TRANSFORMER_MODELS


def test_only_what_loading_reads_is_fetched_with_one_question(hub: FakeHub, needed: list[str]) -> None:
    found = source.find("acme/tiny")
    assert found.kind == "hub" and found.commit == hub.repositories["acme/tiny"].revisions["main"]
    assert names(found.folder) == needed == hub.fetched()
    assert [entry for entry in hub.requests if "/api/" in entry] == ["GET /api/models/acme/tiny"]


def test_what_was_fetched_is_a_cache_for_huggingface_hub_too(hub: FakeHub) -> None:
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    found = source.find("acme/tiny")
    root = os.environ["HF_HUB_CACHE"]
    assert try_to_load_from_cache("acme/tiny", "config.json", cache_dir=root) == str(found.path("config.json"))
    assert try_to_load_from_cache("acme/tiny", "sentence_bert_config.json", cache_dir=root) is _CACHED_NO_EXIST


def test_a_complete_cache_makes_no_request(hub: FakeHub) -> None:
    first = source.find("acme/tiny")
    hub.requests.clear()
    second = source.find("tiny", organization="acme")
    assert second == source.Source("acme/tiny", first.folder, "cache", first.commit)
    assert source.load_file_path("acme/tiny", "config.json", "1_Pooling") == str(first.path("1_Pooling/config.json"))
    assert source.load_file_path("acme/tiny", "sentence_bert_config.json") is None
    assert source.load_dir_path("acme/tiny", "1_Pooling") == str(first.path("1_Pooling"))
    assert source.is_sentence_transformer_model("acme/tiny")
    assert hub.requests == []


@pytest.mark.parametrize("lost", ["modules.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_an_incomplete_cache_is_completed(hub: FakeHub, lost: str, needed: list[str]) -> None:
    found = source.find("acme/tiny")
    (found.folder / lost).unlink()
    (found.folder / lost).resolve().unlink(missing_ok=True)
    assert names(source.find("acme/tiny").folder) == needed


def test_a_link_to_a_lost_blob_is_not_complete(hub: FakeHub, needed: list[str]) -> None:
    found = source.find("acme/tiny")
    (found.folder / "model.safetensors").resolve().unlink()
    again = source.find("acme/tiny")
    assert again.kind == "hub" and names(again.folder) == needed


def test_pickles_are_fetched_where_there_are_no_safetensors(hub: FakeHub, model_files: dict[str, bytes]) -> None:
    del model_files["model.safetensors"]
    model_files["2_Dense/model.safetensors"] = b"x"
    model_files["2_Dense/pytorch_model.bin"] = b"x"
    hub.add("acme/old", model_files)
    found = names(source.find("acme/old").folder)
    assert "pytorch_model.bin" in found and "2_Dense/pytorch_model.bin" not in found


def test_extra_patterns_bring_further_files_once(hub: FakeHub) -> None:
    source.find("acme/tiny")
    found = source.find("acme/tiny", extra_patterns=["onnx/*"])
    assert found.file("model.onnx", "onnx") is not None and found.file("tf_model.h5") is None
    hub.requests.clear()
    assert source.find("acme/tiny", extra_patterns=["onnx/*"]).kind == "cache"
    assert hub.requests == []


def test_a_branch_a_tag_and_a_commit_are_separate_snapshots(hub: FakeHub, model_files: dict[str, bytes]) -> None:
    main = source.find("acme/tiny")
    commit = hub.push("acme/tiny", {**model_files, "README.md": b"# second"}, "refs/pr/1")
    second = source.find("acme/tiny", revision="refs/pr/1")
    assert second.commit == commit != main.commit
    assert second.path("README.md").read_text() == "# second"
    hub.requests.clear()
    assert source.find("acme/tiny", revision=commit).folder == second.folder
    assert source.find("acme/tiny", revision="refs/pr/1").folder == second.folder
    assert source.find("acme/tiny", revision="main").folder == main.folder
    assert hub.requests == []


def test_a_model_without_modules_is_known_to_have_none(hub: FakeHub, model_files: dict[str, bytes]) -> None:
    del model_files["modules.json"]
    hub.add("acme/bare", model_files)
    source.find("acme/bare")
    hub.requests.clear()
    assert source.find("acme/bare").kind == "cache"
    assert not source.is_sentence_transformer_model("acme/bare")
    assert hub.requests == []


def test_a_snapshot_of_another_tool_without_modules_is_not_taken_for_a_bare_model(hub: FakeHub) -> None:
    from huggingface_hub import hf_hub_download

    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        hf_hub_download("acme/tiny", name, endpoint=hub.address, cache_dir=os.environ["HF_HUB_CACHE"])
    assert source.find("acme/tiny").file("modules.json") is not None


def test_an_unreachable_hub_leaves_a_usable_snapshot(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    folder = source.find("acme/tiny").folder
    shutil.rmtree(folder.parent.parent / ".no_exist")  # whether there is a sentence_bert_config.json is not known
    hub.status = 503
    found = source.find("acme/tiny")
    assert found.kind == "cache" and found.folder == folder
    assert "may lack files" in caplog.text


def test_an_unreachable_hub_is_named_with_a_remedy(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(ConnectionError, match=r"cannot be reached for 'acme/tiny'.*HF_ENDPOINT") as error:
        source.find("acme/tiny")
    assert error.value.__cause__ is not None


def test_a_hub_that_fails_is_named_with_its_status(hub: FakeHub) -> None:
    hub.status = 500
    with pytest.raises(ConnectionError, match=r"'acme/tiny' \(HTTP 500\)"):
        source.find("acme/tiny")


def test_an_unknown_model_is_named_with_a_remedy(hub: FakeHub) -> None:
    with pytest.raises(FileNotFoundError, match=r"'acme/none' not found.*private.*token=") as error:
        source.find("acme/none")
    assert error.value.__cause__ is not None
    assert source.load_file_path("acme/none", "config.json") is None
    assert source.load_dir_path("acme/none", "1_Pooling") is None
    assert not source.is_sentence_transformer_model("acme/none")


def test_an_unknown_revision_is_named(hub: FakeHub) -> None:
    with pytest.raises(FileNotFoundError, match="no revision 'v9'"):
        source.find("acme/tiny", revision="v9")


def test_a_gated_model_names_the_page_to_ask_at(hub: FakeHub, model_files: dict[str, bytes]) -> None:
    hub.add("acme/gated", model_files, gated=True)
    with pytest.raises(PermissionError, match="gated.*https://huggingface.co/acme/gated"):
        source.find("acme/gated")


def test_a_wrong_token_is_refused_and_a_right_one_opens_a_private_model(
    hub: FakeHub, model_files: dict[str, bytes]
) -> None:
    hub.add("acme/private", model_files, private=True)
    with pytest.raises(PermissionError, match="token is wrong, expired"):
        source.find("acme/private", token="hf_wrong")
    with pytest.raises(FileNotFoundError, match="private"):
        source.find("acme/private")
    assert source.find("acme/private", token=TOKEN).kind == "hub"


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_with_nothing_local_says_where_was_looked(
    hub: FakeHub, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError) as error:
        source.find("acme/tiny", local_files_only=how == "argument")
    assert str(tmp_path / "cache" / "models--acme--tiny") in str(error.value)
    assert ("local_files_only=True" if how == "argument" else "HF_HUB_OFFLINE") in str(error.value)
    assert hub.requests == []


def test_the_cache_folder_is_argument_then_environment_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SENTENCE_TRANSFORMERS_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.cache_root() == Path("/x/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "/h")
    assert cache.cache_root() == Path("/h/hub")
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "/old")
    assert cache.cache_root() == Path("/old")
    monkeypatch.setenv("HF_HUB_CACHE", "/new")
    assert cache.cache_root() == Path("/new")
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", "/st")
    assert cache.cache_root() == Path("/st")
    assert cache.cache_root("/mine") == Path("/mine")


def test_one_file_costs_no_download_of_the_model(hub: FakeHub) -> None:
    path = source.load_file_path("acme/tiny", "modules.json")
    assert path is not None and Path(path).is_file()
    assert hub.fetched() == ["modules.json"]
    assert source.load_file_path("acme/tiny", "nothing.json") is None


def test_one_folder_costs_no_download_of_the_model(hub: FakeHub) -> None:
    path = source.load_dir_path("acme/tiny", "1_Pooling")
    assert path is not None and names(Path(path)) == ["config.json"]
    assert hub.fetched() == ["1_Pooling/config.json"]
    assert source.load_dir_path("acme/tiny", "9_None") is None


def test_the_folder_of_a_whole_model_is_its_snapshot(hub: FakeHub, needed: list[str]) -> None:
    path = source.load_dir_path("acme/tiny")
    assert path is not None and names(Path(path)) == needed


def test_a_local_folder_without_the_file_gives_none(model_folder: Path) -> None:
    assert source.load_file_path(model_folder, "config.json") == str(model_folder / "config.json")
    assert source.load_file_path(model_folder, "none.json") is None
    assert source.load_dir_path(model_folder, "1_Pooling") == str(model_folder / "1_Pooling")
    assert source.load_dir_path(model_folder, "none") is None


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "C:\\x", "..\\x", "a\0b", "\\\\server\\x"])
def test_a_path_out_of_the_model_is_refused(path: str, model_folder: Path, hub: FakeHub) -> None:
    with pytest.raises(UntrustedCodeError, match="Invalid model path"):
        source.find(model_folder).path(path)
    with pytest.raises(UntrustedCodeError, match="Invalid model path"):
        source.load_file_path("acme/tiny", path)
    with pytest.raises(UntrustedCodeError, match="Invalid model path"):
        source.load_file_path(model_folder, "config.json", subfolder=path)


def test_a_link_out_of_the_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (model_folder / "link.json").symlink_to(tmp_path / "secret.json")
    (model_folder / "folder").symlink_to(tmp_path)
    for path in ("link.json", "folder/secret.json"):
        with pytest.raises(UntrustedCodeError, match="outside the model folder"):
            source.find(model_folder).path(path)


def test_a_link_of_the_cache_may_lead_to_its_blobs_only(hub: FakeHub, tmp_path: Path) -> None:
    found = source.find("acme/tiny")
    assert (found.folder / "config.json").is_symlink()
    assert found.path("config.json").read_bytes() == b'{"model_type": "bert"}'
    (tmp_path / "secret.json").write_text("{}")
    (found.folder / "evil.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UntrustedCodeError, match="outside the model folder"):
        found.path("evil.json")


def test_a_link_within_the_model_is_followed(model_folder: Path) -> None:
    (model_folder / "again.json").symlink_to("config.json")
    assert source.find(model_folder).file("again.json") is not None


def test_a_committed_save_that_was_not_put_in_place_is_what_is_found(model_folder: Path) -> None:
    shutil.copytree(model_folder, model_folder / ".saved")
    assert source.find(model_folder).folder == model_folder / ".saved"
