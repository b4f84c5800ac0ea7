"""The small utilities: logs, padding, gathering, installed packages, names, CSV rows, and old calls."""

from __future__ import annotations

import io
import logging
import sys
from collections import namedtuple
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from sentence_transformers.hub.legacy_calls import save_to_hub_args_decorator
from sentence_transformers.ops import gather, installed
from sentence_transformers.ops.csv_rows import append_to_last_row
from sentence_transformers.ops.function_names import similarity_fct_name
from sentence_transformers.ops.late_scores import XTRScores
from sentence_transformers.ops.logs import LoggingHandler, disable_logging, disabled_tqdm, install_logger
from sentence_transformers.ops.padding import (
    cat_padded_token_embeddings,
    move_tensors_to_cpu,
    repad_flattened_features,
    stack_padded_token_embeddings,
)
from sentence_transformers.ops.similarity import cos_sim

# --- Logs


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("tests.logs")  # in no tree: has neither parents nor a registry that would keep it
    yield made
    made.handlers.clear()


def test_the_handler_writes_to_standard_output(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logger.addHandler(LoggingHandler())
    logger.info("hello %s", "you")
    assert capsys.readouterr().out == "hello you\n"


def test_the_handler_has_a_level(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logger.addHandler(LoggingHandler(logging.ERROR))
    logger.warning("no")
    assert capsys.readouterr().out == ""


def test_an_installed_logger_shows_its_level_and_above(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    install_logger(logger)
    logger.info("no")
    logger.warning("yes")
    assert capsys.readouterr().err == "WARNING:tests.logs:yes\n"


def test_installing_again_replaces(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logger.setLevel(logging.ERROR)
    install_logger(logger)
    install_logger(logger, logging.DEBUG, fmt="%(message)s")
    logger.debug("once")
    assert capsys.readouterr().err == "once\n"


def test_a_terminal_is_given_colours(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Tty())
    install_logger(logger, logging.INFO, fmt="%(message)s")
    logger.info("plain")
    logger.error("red")
    assert sys.stderr.getvalue() == "plain\n\x1b[31mred\x1b[0m\n"  # type: ignore[attr-defined]


def test_logging_is_off_inside_and_as_before_behind() -> None:
    before = logging.root.manager.disable
    with pytest.raises(KeyError), disable_logging():
        assert logging.root.manager.disable == logging.CRITICAL
        raise KeyError
    assert logging.root.manager.disable == before


def test_a_disabled_bar_cannot_be_turned_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(disabled_tqdm([1, 2], disable=False)) == [1, 2]
    assert capsys.readouterr().err == ""


# --- Padding


def test_batches_one_behind_the_other() -> None:
    values, mask = cat_padded_token_embeddings(
        [torch.ones(1, 1, 2), torch.full((2, 3, 2), 2.0)], [torch.tensor([[1]]), torch.tensor([[1, 1, 1], [1, 0, 0]])]
    )
    assert values[0].tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert (values[1:] == 2).all()
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1], [1, 0, 0]]


def test_batches_side_by_side() -> None:
    values, mask = stack_padded_token_embeddings(
        [torch.ones(1, 1, 2), torch.full((1, 2, 2), 2.0)], [torch.tensor([[True]]), torch.tensor([[True, True]])]
    )
    assert values.tolist() == [[[[1.0, 1.0], [0.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]]]
    assert mask.tolist() == [[[True, False], [True, True]]]


@pytest.mark.parametrize("join", [cat_padded_token_embeddings, stack_padded_token_embeddings])
def test_every_batch_needs_its_mask(join: Any) -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        join([torch.ones(1, 1, 2)] * 2, [torch.ones(1, 1)])
    with pytest.raises(ValueError, match="at least one"):
        join([], [])


def flat(**more: Any) -> dict[str, Any]:
    return {
        "input_ids": torch.tensor([[5, 6, 7, 8, 9]]),
        "token_embeddings": torch.arange(10.0).reshape(1, 5, 2),
        "cu_seq_lens_q": torch.tensor([0, 2, 5], dtype=torch.int32),
        **more,
    }


def test_sequences_get_their_rows() -> None:
    features = repad_flattened_features(flat())
    assert features["input_ids"].tolist() == [[5, 6, 0], [7, 8, 9]]
    assert features["token_embeddings"].tolist() == [
        [[0.0, 1.0], [2.0, 3.0], [0.0, 0.0]],
        [[4.0, 5.0], [6.0, 7.0], [8.0, 9.0]],
    ]
    assert features["attention_mask"].tolist() == [[True, True, False], [True, True, True]]


def test_what_describes_the_flat_form_goes_and_the_rest_stays() -> None:
    ends = torch.tensor([0, 2, 5])
    features = flat(position_ids=ends, seq_idx=ends, cu_seq_lens_k=ends, max_length_q=3, max_length_k=3, task="query")
    assert repad_flattened_features(features) is features
    assert set(features) == {"input_ids", "token_embeddings", "attention_mask", "task"}


def test_an_empty_sequence_is_all_padding() -> None:
    features = repad_flattened_features(flat(cu_seq_lens_q=torch.tensor([0, 0, 5])))
    assert features["attention_mask"].tolist() == [[False] * 5, [True] * 5]


def test_tensors_in_containers_are_moved() -> None:
    far = torch.ones(2, device="meta")
    pair = namedtuple("pair", "one two")(torch.ones(1), "text")  # noqa: PYI024
    moved = move_tensors_to_cpu({"a": [torch.ones(1)], "b": pair, "c": 3})
    assert isinstance(moved["b"], tuple)
    assert (moved["a"], moved["b"], moved["c"]) == ([torch.ones(1)], (torch.ones(1), "text"), 3)
    with pytest.raises(NotImplementedError):  # torch cannot: but it was asked to
        move_tensors_to_cpu([(far,)])


# --- Gathering


def test_a_process_in_no_group_is_alone() -> None:
    assert (gather.get_rank(), gather.get_world_size(), gather.is_dist_initialized()) == (0, 1, False)


def test_alone_the_tensor_itself_comes_back_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    gather._say_alone.cache_clear()
    tensor, mask = torch.ones(2, 3, 4), torch.ones(2, 3)
    assert gather.all_gather(tensor) is tensor
    assert gather.all_gather_with_grad(tensor) is tensor
    assert gather.all_gather_padded(tensor, mask) == (tensor, mask)
    assert len(caplog.records) == 1


WEIGHTS = torch.arange(8.0).reshape(4, 2)


def in_a_group(rank: int, folder: str) -> None:
    """One of two processes: calls everything, and saves what it got."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = torch.full((2, 2), rank + 1.0, requires_grad=True)
    tokens = torch.full((2, 1 + 2 * rank, 2), rank + 1.0)
    mask = torch.ones(2, 1 + 2 * rank, dtype=torch.bool)
    found: dict[str, Any] = {
        "who": (gather.get_rank(), gather.get_world_size()),
        "all": gather.all_gather(own).detach(),
        "turned": gather.all_gather(own.detach().T),
        "padded": gather.all_gather_padded(tokens, mask),
        "unequal": "",
    }
    for name, with_grad in (("own gradient", False), ("all gradients", True)):
        own.grad = None
        ((rank + 1) * WEIGHTS * gather.all_gather(own, with_grad=with_grad)).sum().backward()
        assert own.grad is not None
        found[name] = own.grad.clone()
    try:
        gather.all_gather_padded(tokens[: rank + 1], mask[: rank + 1])
    except ValueError as error:
        found["unequal"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this build of torch has no gloo")
    folder = tmp_path_factory.mktemp("group")
    multiprocessing.start_processes(
        in_a_group, args=(str(folder),), nprocs=2, start_method="spawn"
    )  # after OpenMP or CUDA, fork may hang
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_every_process_knows_who_it_is(group: list[dict[str, Any]]) -> None:
    assert [found["who"] for found in group] == [(0, 2), (1, 2)]


def test_gathered_in_the_order_of_ranks(group: list[dict[str, Any]]) -> None:
    for found in group:
        assert found["all"].tolist() == [[1, 1], [1, 1], [2, 2], [2, 2]]
        assert found["turned"].tolist() == found["all"].tolist()


def test_without_grad_only_the_own_part_has_a_gradient(group: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(group):
        assert torch.equal(found["own gradient"], (rank + 1) * WEIGHTS[2 * rank : 2 * rank + 2])


def test_with_grad_the_gradients_of_all_processes_are_summed(group: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(group):
        assert torch.equal(found["all gradients"], (1 + 2) * WEIGHTS[2 * rank : 2 * rank + 2])


def test_fewer_tokens_are_padded_to_the_most(group: list[dict[str, Any]]) -> None:
    for found in group:
        values, mask = found["padded"]
        assert values[:, :, 0].tolist() == [[1, 0, 0], [1, 0, 0], [2, 2, 2], [2, 2, 2]]
        assert mask.tolist() == [[True, False, False]] * 2 + [[True] * 3] * 2


def test_batches_of_different_size_are_refused_everywhere(group: list[dict[str, Any]]) -> None:
    assert all("[1, 2]" in found["unequal"] for found in group)


# --- Installed packages


def distribution(folder: Path, name: str, *links: str) -> None:
    place = folder / f"{name}-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *links]))


@pytest.mark.parametrize(
    "link, found",
    [
        ("Home-page: https://github.com/acme/madeupname", True),
        ("Project-URL: Repository, https://github.com/acme/madeupname.git", True),
        ("Project-URL: Issues, https://github.com/acme/madeupname/issues", True),
        ("Home-page: https://github.com/someone/madeupname", False),
        ("Home-page: https://github.com/acme/madeupname2", False),
        ("Summary: none", False),
    ],
)
def test_a_package_is_known_by_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str, found: bool
) -> None:
    distribution(tmp_path, "madeupname", link)
    monkeypatch.syspath_prepend(tmp_path)
    assert installed.check_package_availability("madeupname", "acme") is found


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "madeupname").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not installed.check_package_availability("madeupname", "acme")


def test_training_needs_both_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()
    monkeypatch.setattr(installed, "check_package_availability", lambda name, owner: (owner, name) in there)
    there.add(("huggingface", "datasets"))
    assert (installed.is_datasets_available(), installed.is_training_available()) == (True, False)
    there.add(("huggingface", "accelerate"))
    assert (installed.is_accelerate_available(), installed.is_training_available()) == (True, True)


@pytest.mark.parametrize("before", [True, False])
def test_caching_is_off_inside_and_as_before_behind(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Datasets:
        caching = before

        def is_caching_enabled(self) -> bool:
            return self.caching

        def disable_caching(self) -> None:
            self.caching = False

        def enable_caching(self) -> None:
            self.caching = True

    fake = Datasets()
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(KeyError), installed.disable_datasets_caching():
        assert not fake.caching
        raise KeyError
    assert fake.caching is before


# --- Names


class Scorer:
    def __call__(self, first: Any, second: Any) -> Any:
        return first


@pytest.mark.parametrize(
    "function, name",
    [
        (cos_sim, "cos_sim"),
        (partial(cos_sim), "cos_sim"),
        (partial(max, default=0, key=None), "max(default=0, key=None)"),
        (Scorer(), "Scorer"),
        (XTRScores, "XTRScores"),
        (XTRScores(top_k=8), "XTRScores(top_k=8, chunk_elements=None)"),
    ],
)
def test_score_functions_have_names(function: Any, name: str) -> None:
    assert similarity_fct_name(function) == name


# --- CSV


def test_values_are_added_to_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text('a,b\n1,"2\n3"\n4,é\n', encoding="utf-8")
    assert append_to_last_row(path, ["x,y", None, 1.5])
    assert path.read_bytes().decode() == 'a,b\r\n1,"2\n3"\r\n4,é,"x,y",,1.5\r\n'


@pytest.mark.parametrize("text", ["", "a,b\n"])
def test_without_a_row_nothing_is_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(text)
    assert not append_to_last_row(path, [1])
    assert path.read_text() == text


# --- Old calls of save_to_hub


class Pusher:
    @save_to_hub_args_decorator
    def push(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs


@pytest.mark.parametrize(
    "given, passed_on",
    [
        (("repo",), ("repo",)),
        (("repo", "organization"), ("repo", "organization", None)),
        (("repo", "organization", True), ("repo", "organization", None, True)),
    ],
)
def test_old_positions_make_room_for_the_token(given: tuple[Any, ...], passed_on: tuple[Any, ...]) -> None:
    assert Pusher().push(*given) == (passed_on, {})


def test_the_old_keyword_is_renamed(caplog: pytest.LogCaptureFixture) -> None:
    assert Pusher().push(repo_name="repo", private=True) == ((), {"repo_id": "repo", "private": True})
    assert "repo_id" in caplog.text
