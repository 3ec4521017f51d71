"""Trees of a repository: the named commit, and the working tree as it is, without a trace in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.run.ab.git_trees import (
    changed_files,
    copy_changes,
    find_commit,
    find_repository,
    tree_of,
    variables_without_git,
)
from tests.support.toy_repository import git, make_repository


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository").resolve()


def worktrees(root: Path) -> int:
    return git(root, "worktree", "list", "--porcelain").count("worktree ")


def files(folder: Path) -> dict[str, str]:
    """The text of each file, or where a link leads; what git keeps for itself is left out."""
    found = [path for path in folder.rglob("*") if ".git" not in path.relative_to(folder).parts]
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in found
        if path.is_symlink() or path.is_file()
    }


def test_a_folder_in_no_repository_is_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(BenchError, match="in no git repository"):
        find_repository(tmp_path)
    assert find_repository(root / "counted_toy") == root


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("nosuch", "has no such commit"),
        ("main..main", "has no such commit"),
        ("main:speed.py", "has no such commit"),
        ("-main", "not the name of a commit"),
        ("--output=stolen", "not the name of a commit"),
        ("", "not the name of a commit"),
    ],
)
def test_what_names_no_commit_is_refused(root: Path, ref: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        find_commit(root, ref)
    assert not list(root.rglob("stolen"))


def test_a_commit_has_many_names(root: Path) -> None:
    commit = git(root, "rev-parse", "HEAD")
    git(root, "tag", "--annotate", "--message=x", "v1")
    assert {find_commit(root, ref) for ref in ("main", "v1", "HEAD", commit[:8], "main^{/Count}")} == {commit}


def test_the_working_tree_is_taken_as_it_is(root: Path, tmp_path: Path) -> None:
    git(root, "rm", "--quiet", "--cached", "speed.py")  # still there, not known to git
    (root / "counted_toy" / "__init__.py").unlink()
    (root / "counted_toy" / "staged.py").write_text("staged")
    git(root, "add", "counted_toy/staged.py")
    (root / ".gitignore").write_text("results/\n")
    (root / "new folder").mkdir()
    (root / "new folder" / "ümlaut\n.py").write_text("new")
    (root / "link").symlink_to("new folder")
    (root / "results").mkdir()
    (root / "results" / "ignored.jsonl").write_text("ignored")
    make_repository(root / "inner")
    expected = {name: text for name, text in files(root).items() if not name.startswith(("results/", "inner/"))}
    status = git(root, "status", "--porcelain")
    changed = changed_files(root)
    with tree_of(root, find_commit(root, "HEAD"), tmp_path / "tree"):
        digest = copy_changes(root, changed, tmp_path / "tree")
        assert files(tmp_path / "tree") == expected
        assert len(digest) == 7
        assert worktrees(root) == 2
        (root / "counted_toy" / "staged.py").write_text("other")
        assert copy_changes(root, changed, tmp_path / "tree") != digest
        (root / "counted_toy" / "staged.py").write_text("staged")
    assert git(root, "status", "--porcelain") == status
    assert worktrees(root) == 1
    assert not (tmp_path / "tree").exists()


def test_a_tree_without_changes_has_no_digest(root: Path, tmp_path: Path) -> None:
    assert changed_files(root) == []
    assert copy_changes(root, [], tmp_path) == ""


def test_a_tree_goes_when_its_block_fails(root: Path, tmp_path: Path) -> None:
    def interrupted() -> None:
        with tree_of(root, find_commit(root, "main"), tmp_path / "tree"):
            assert (tmp_path / "tree" / "speed.py").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert worktrees(root) == 1
    assert not (tmp_path / "tree").exists()


def test_no_hook_is_called(root: Path, tmp_path: Path) -> None:
    hook = root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'called'}'\n")
    hook.chmod(0o755)
    with tree_of(root, find_commit(root, "main"), tmp_path / "tree"):
        assert not (tmp_path / "called").exists()


def test_variables_that_a_hook_has_are_not_handed_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_INDEX_FILE", str(root / ".git" / "index"))
    monkeypatch.setenv("GIT_DIR", str(root / ".git"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "kept")
    before = (root / ".git" / "index").read_bytes()
    with tree_of(root, find_commit(root, "main"), tmp_path / "tree"):
        assert (tmp_path / "tree" / "speed.py").exists()
    assert (root / ".git" / "index").read_bytes() == before
    handed_on = variables_without_git()
    assert handed_on["GIT_AUTHOR_NAME"] == "kept"
    assert not {"GIT_INDEX_FILE", "GIT_DIR"} & set(handed_on)
