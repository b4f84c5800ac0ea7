"""Saving a folder: all or nothing, also when the process is killed, and nothing of the user's is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentence_transformers.hub.folder import current, staged

OLD = {
    "modules.json": '[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]',
    "config.json": "old",
    "model.safetensors": "old weights",
    "1_Pooling/config.json": "old pooling",
    "2_Dense/config.json": "old dense",
    "2_Dense/model.safetensors": "old dense weights",
}
NEW = {
    "modules.json": '[{"path": ""}, {"path": "1_Pooling"}]',
    "config.json": "new",
    "pytorch_model.bin": "new weights",
    "1_Pooling/config.json": "new pooling",
}
ROOT = Path(__file__).parents[3]
USERS = {"notes.txt": "mine", "1_Pooling/mine.txt": "mine too", "data/vocab.txt": "also mine"}

DRIVER = """
import itertools, json, os, signal, sys
from pathlib import Path
from sentence_transformers.hub import folder

base, before, after = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])

def write(target, files):
    for name, text in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)

def save_and_die(target, step):
    left = itertools.count(step - 1, -1)
    def counted(function):
        def call(*args, **kwargs):
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call
    for name in ("replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "open"):
        setattr(os, name, counted(getattr(os, name)))
    with folder.staged(target) as staging:
        write(staging, after)

for step in itertools.count(1):
    target = base / str(step)
    write(target, before)
    child = os.fork()
    if child == 0:
        save_and_die(target, step)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Saves into the folders ``base/1``, ``base/2``, ...; the process of folder n kills itself before its n-th change of
the disk, until one gets to its end."""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def save(folder: Path, files: dict[str, str]) -> None:
    with staged(folder) as staging:
        write(staging, files)


def model_of(folder: Path) -> dict[str, str]:
    """What a reader of the folder sees: the files of the present model, without the user's and those underway."""
    found = read(current(folder))
    return {name: text for name, text in found.items() if name not in USERS and not name.startswith(".")}


def test_a_save_fills_a_new_folder(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b", OLD)
    assert read(tmp_path / "a" / "b") == OLD


def test_a_save_replaces_the_model_and_leaves_the_files_of_the_user(tmp_path: Path) -> None:
    save(tmp_path, OLD)
    write(tmp_path, USERS)
    save(tmp_path, NEW)
    assert read(tmp_path) == {**NEW, **USERS}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["1_Pooling", "data"]


def test_an_empty_folder_of_the_model_is_made(tmp_path: Path) -> None:
    with staged(tmp_path) as staging:
        (staging / "2_Normalize").mkdir()
    assert (tmp_path / "2_Normalize").is_dir()


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    save(tmp_path, OLD)
    assert (tmp_path / "config.json").stat().st_mode == (tmp_path / "file").stat().st_mode
    assert (tmp_path / "1_Pooling").stat().st_mode == (tmp_path / "folder").stat().st_mode


@pytest.mark.parametrize("existed", [True, False])
def test_an_exception_leaves_everything_as_it_was(existed: bool, tmp_path: Path) -> None:
    target = tmp_path / "model"
    if existed:
        save(target, OLD)

    def fail() -> None:
        with staged(target) as staging:
            write(staging, NEW)
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert target.exists() == existed
    if existed:
        assert read(target) == OLD


def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"config.json/deep": "x", "1_Pooling": "a file"})
    before = read(tmp_path)
    for files in ({"config.json": "new"}, {"1_Pooling/config.json": "new"}):
        with pytest.raises(FileExistsError, match="Remove it, or save to another folder"):
            save(tmp_path, files)
        assert read(tmp_path) == before


def test_without_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path, OLD)
    save(tmp_path, NEW)
    assert read(tmp_path) == NEW


def test_an_open_file_keeps_its_content_while_the_model_is_saved_over_it(tmp_path: Path) -> None:
    save(tmp_path, OLD)
    with (tmp_path / "config.json").open() as file:
        save(tmp_path, NEW)
        assert file.read() == "old"


def test_a_link_in_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("of another model")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "blob")
    save(tmp_path / "model", NEW)
    assert (tmp_path / "blob").read_text() == "of another model"
    assert read(tmp_path / "model") == NEW


@pytest.mark.parametrize(
    ("before", "written", "left"),
    [
        (["model.safetensors", "adapter_config.json", "adapter_model.bin"], ["pytorch_model.bin"], []),
        (["model-00001-of-00002.safetensors", "model.safetensors.index.json"], ["model.safetensors"], []),
        (["model.safetensors"], ["adapter_model.safetensors"], ["model.safetensors"]),
        (["adapter_model.bin"], ["adapter_model.safetensors"], []),
        (["chat_template.jinja", "added_tokens.json", "vocab.txt"], ["tokenizer_config.json"], ["vocab.txt"]),
        (["model.safetensors", "my_model.safetensors"], ["README.md"], ["model.safetensors", "my_model.safetensors"]),
    ],
)
def test_only_leftovers_that_would_be_read_are_removed(
    before: list[str], written: list[str], left: list[str], tmp_path: Path
) -> None:
    write(tmp_path, dict.fromkeys(before, "old"))
    save(tmp_path, dict.fromkeys(written, "new"))
    assert sorted(read(tmp_path)) == sorted([*left, *written])


@pytest.mark.parametrize(
    ("path", "files", "left"),
    [
        ("2_Dense", ["config.json", "model.safetensors"], []),
        ("2_Dense", ["config.json", "notes.md"], ["2_Dense/notes.md"]),
        ("2_Dense", ["vocab.txt"], ["2_Dense/vocab.txt"]),
        ("my_module", ["config.json"], ["my_module/config.json"]),
    ],
)
def test_folders_of_old_modules_go_if_they_are_surely_ours(
    path: str, files: list[str], left: list[str], tmp_path: Path
) -> None:
    write(tmp_path, {f"{path}/{name}": "old" for name in files})
    write(tmp_path, {"modules.json": json.dumps([{"path": path}]), "3_Unnamed/config.json": "not in modules.json"})
    save(tmp_path, {"modules.json": "[]"})
    assert sorted(read(tmp_path)) == sorted([*left, "3_Unnamed/config.json", "modules.json"])


def test_a_save_does_not_disturb_another_one_underway(tmp_path: Path) -> None:
    with staged(tmp_path) as first:
        write(first, OLD)
        save(tmp_path, NEW)
        assert read(first) == OLD
    assert read(tmp_path) == OLD


@pytest.mark.skipif(sys.platform == "win32", reason="no fork and no SIGKILL on this system")
def test_a_save_killed_at_any_point_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", DRIVER, str(tmp_path), json.dumps({**OLD, **USERS}), json.dumps(NEW)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    seen = []
    for target in sorted(tmp_path.iterdir(), key=lambda path: int(path.name)):
        found = model_of(target)
        assert found in (OLD, NEW), f"a mix after step {target.name}: {sorted(found)}"
        assert {name: text for name, text in read(target).items() if name in USERS} == USERS
        seen.append(found == NEW)
        third = {**NEW, "config.json": "third"}
        save(target, third)
        assert read(target) == {**third, **USERS}, f"leftovers after step {target.name}"
        assert [path.name for path in target.iterdir() if path.name.startswith(".")] == []
    assert seen == sorted(seen)  # one commit point
    assert 10 < seen.index(True) < len(seen) - 10  # killed many times on both sides of it
