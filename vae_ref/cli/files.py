"""The files into which a report is written, beside the terminal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from vae_ref.conformance.records import Report
from vae_ref.support.atomic import require_writable
from vae_ref.support.errors import InputError
from vae_ref.support.messages import in_english

if TYPE_CHECKING:
    from vae_ref.conformance.reports.picture import Picture

__all__ = ["require_outputs", "write_files"]


@in_english()
def write_files(
    report: Report,
    pictures: "list[Picture]",
    *,
    json_file: Path | None,
    junit: Path | None,
    html: Path | None,
) -> None:
    """Write the files, before anything is shown: a terminal may be gone."""
    from vae_ref.conformance.reports.files import as_json, as_junit, write

    if json_file:
        write(json_file, json.dumps(as_json(report), indent=1, allow_nan=False) + "\n")
    if junit:
        write(junit, as_junit(report))
    if html:
        from vae_ref.conformance.reports.html import as_html

        write(html, as_html(report, pictures))


def require_outputs(outputs: dict[str, Path | None], inputs: list[str | Path | None]) -> None:
    """Raise, before the work is done, if a report cannot be written or would replace an input."""
    named = {option: path for option, path in outputs.items() if path}
    read = {Path(path).resolve() for path in inputs if path}
    taken: dict[Path, str] = {}
    for option, path in named.items():
        place = path.resolve()
        if place in read:
            raise InputError(option, "not be a file that is read", path, "Name another.")
        if place in taken and not path.is_char_device():
            raise InputError(option, f"not be that of {taken[place]}", path, "Name another.")
        taken[place] = option
        if not path.exists() or path.is_file():
            require_writable(path)
