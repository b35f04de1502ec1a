"""Find the files of a commit, of the working tree, or of a plain directory."""

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from vae_ref.support.errors import UserError

__all__ = ["GateError", "Revision", "accepted", "check_out", "commits", "log"]


class GateError(UserError):
    """Says in one line why nothing can be compared, and what to do about it."""


@dataclass(frozen=True)
class Revision:
    """The files of one side of a comparison.

    Args:
        name: The name that the user gave.
        tree: The directory of its files.
        commit: The commit; None for the working tree or a plain directory.
    """

    name: str
    tree: Path
    commit: str | None = None

    def source(self, directory: str) -> Path:
        """Return the directory of the tree from which packages are imported."""
        source = self.tree / directory
        if not source.is_dir():
            raise GateError(f"--source must be a directory of {self.name}; {directory} is not.")
        return source


def check_out(name: str | None, into: Path, *, build: str | None = None) -> Revision:
    """Write the files of a revision to a directory, and build them.

    Args:
        name: A commit, branch or tag of the repository in the current directory; or a directory,
            which is used in place. None is the working tree, which is copied: editing can go on.
        into: An empty directory.
        build: A shell command to run in the tree, for a project that has to be built.

    Raises:
        GateError: If there is no such revision, or the build fails.
    """
    if name is None:
        revision = Revision("working tree", _copied(into))
    elif commit := _commit(name):
        archive = _git_bytes("archive", "--format=tar", commit, cwd=_top())
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                files.extractall(into, filter="data")
        except tarfile.TarError as error:
            raise GateError(f"{name} cannot be checked out: {error}") from None
        revision = Revision(name, into, commit)
    elif Path(name).is_dir():
        revision = Revision(name, Path(name).resolve())
    else:
        where = "this repository" if _top() else "a git repository (there is none here)"
        raise GateError(
            f"BASE and HEAD must be revisions of {where} or directories; {name} is neither. "
            "In CI, fetch the whole history."
        )
    if build:
        done = subprocess.run(
            build, shell=True, cwd=revision.tree, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise GateError(f"--build fails in {revision.name}: {''.join(last) or build}")
    return revision


def log(name: str) -> tuple[str, str, str]:
    """Return a commit, its date and its subject.

    Raises:
        GateError: If there is no such commit.
    """
    if not (commit := _commit(name)):
        raise GateError(f"{name} must be a revision of this repository, and is not.")
    found, date, subject = _git("log", "-1", "--format=%H%n%cI%n%s", commit).splitlines()[:3]
    return found, date, subject


def commits(head: str = "HEAD") -> list[str]:
    """Return all commits on the first line of descent to a revision, the oldest first."""
    return _git("rev-list", "--first-parent", "--reverse", head).split()


def accepted(base: Revision, head: Revision) -> dict[str, str]:
    """Read what the commits after the base accept: ``Costs: training/time the sum is exact``.

    Returns:
        The reason for every name that was accepted. The line is part of the change that it
        excuses: it is reviewed with it, and has no effect on later changes.
    """
    if not base.commit or not (head.commit or head.name == "working tree"):
        return {}
    span = f"{base.commit}..{head.commit or 'HEAD'}"
    lines = _git("log", "--format=%(trailers:key=Costs,valueonly,unfold)", span).splitlines()
    pairs = [line.strip().partition(" ") for line in lines if line.strip()]
    return {name: reason.strip() or "no reason given" for name, _, reason in pairs}


def _git(*arguments: str, cwd: str | None = None) -> str:
    return _git_bytes(*arguments, cwd=cwd).decode(errors="replace")


def _git_bytes(*arguments: str, cwd: str | None = None) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, check=False)
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip().splitlines()[-1]
        raise GateError(f"git {arguments[0]} fails: {error}")
    return done.stdout


def _top() -> str | None:
    try:
        return _git("rev-parse", "--show-toplevel").strip()
    except (GateError, FileNotFoundError):
        return None


def _commit(name: str) -> str | None:
    try:
        found = _git("rev-parse", "--verify", "--end-of-options", name + "^{commit}")
    except (GateError, FileNotFoundError):
        return None
    return found.strip()


def _copied(into: Path) -> Path:
    """Copy the working tree, except what git ignores."""
    if not (top := _top()):
        raise GateError("HEAD is the working tree, but there is no repository here; name both.")
    names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=top)
    for name in filter(None, names.split("\0")):
        file = Path(top, name)
        if file.is_symlink() or file.is_file():  # not one that was deleted
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, into / name, follow_symlinks=False)
    return into
