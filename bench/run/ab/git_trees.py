"""Trees of one git repository, each in a folder of its own: that of a commit, and the working tree as it is.

A tree is a detached worktree, so that a build that asks git for the version gets an answer. The repository's own files,
index and branches are not touched, and git forgets the worktrees at the end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.core.process_environment import environment_variables
from bench.errors import BenchError

SHORT_DIGITS = 7
NOT_PASSED_ON = (
    "GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
    "GIT_WORK_TREE",
)  # fmt: skip
"""Variables that git sets for its hooks: in a hook they would point a second worktree at the first one's index."""


def variables_without_git() -> dict[str, str]:
    """This process's variables without those that tie git to one repository."""
    return {name: value for name, value in environment_variables().items() if name not in NOT_PASSED_ON}


def find_repository(folder: Path) -> Path:
    """The root of the git repository that a folder is in. Raises BenchError if it is in none."""
    done = _git(folder, "rev-parse", "--show-toplevel")
    if done.returncode:
        raise BenchError(
            f"--base: {folder} is in no git repository that can be used ({_last_line(done.stderr)}); call it inside "
            "one, or name both sides with --a-python and --b-python"
        )
    return Path(done.stdout.strip())


def find_commit(root: Path, ref: str) -> str:
    """The full name of a commit. Raises BenchError for a name that git does not know here."""
    if ref.startswith("-") or not ref.strip():
        raise BenchError(f"--base {ref}: not the name of a commit; give a branch, a tag or a commit, such as main")
    done = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if done.returncode:
        raise BenchError(
            f"--base {ref}: {root} has no such commit; give a branch, a tag or a commit, or fetch it first "
            "(a shallow clone has only the newest commit)"
        )
    return done.stdout.strip()


@contextmanager
def tree_of(root: Path, commit: str, folder: Path) -> Iterator[None]:
    """The files of a commit in `folder`, which is not there yet, for as long as the block lasts."""
    # A hook that the user has for checkouts is not called for this one.
    words = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--force", str(folder), commit)
    try:
        done = _git(root, *words)
        if done.returncode:
            raise BenchError(f"git made no worktree of {commit[:SHORT_DIGITS]}: {_last_line(done.stderr)}")
        yield
    finally:
        _git(root, "worktree", "remove", "--force", "--force", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def changed_files(root: Path) -> list[str]:
    """Files of the working tree that are not as in HEAD; new ones count unless git ignores them."""
    words = (
        ("diff", "--name-only", "--no-renames", "--ignore-submodules", "-z", "HEAD", "--"),
        ("ls-files", "--others", "--exclude-standard", "-z", "--"),
    )
    ends = [_git(root, *each) for each in words]
    for done in ends:
        if done.returncode:
            raise BenchError(f"git does not tell the changes in {root}: {_last_line(done.stderr)}")
    names = {name for done in ends for name in done.stdout.split("\0") if name}
    return sorted(name for name in names if not name.endswith("/"))  # a repository inside this one is not its file


def copy_changes(root: Path, names: list[str], folder: Path) -> str:
    """Make the tree of HEAD in `folder` like the working tree; returns a short digest of the changes."""
    digest = hashlib.sha256()
    for name in names:
        source, target = root / name, folder / name
        digest.update(os.fsencode(name) + b"\0")
        if target.is_symlink() or target.is_file():
            target.unlink()
        if source.is_symlink():
            digest.update(os.fsencode(source.readlink()))
        elif source.is_file():
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        else:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return digest.hexdigest()[:SHORT_DIGITS] if names else ""


def has_submodules(root: Path) -> bool:
    """True if part of the tree is other repositories, which a worktree leaves empty."""
    return (root / ".gitmodules").is_file()


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            env=variables_without_git(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError as error:
        raise BenchError("--base: there is no program git here; install it") from error


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "git said nothing"
