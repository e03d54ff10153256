"""Version folders with DVC, and see that what was saved is what is there: `python workflow/scripts/save.py FOLDER...`.

All steps follow links to folders, DVC follows none: what lies behind one would be saved as nothing, without a word.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

LEFT_OUT = (".training.lock", ".tmp")
"""Ends of the names that .dvcignore has."""


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]]
    for folder in folders:
        if not folder.is_dir():
            sys.exit(f"error: {folder} is not there: nothing has been made that could be saved")
        if link := next(links(folder), None):
            sys.exit(
                f"error: {link} is a link to a folder, behind which DVC saves nothing: put the folder itself there, or "
                "move the whole project to the disk that has room and link to that (docs/versioning.md)"
            )
    subprocess.run(["dvc", "add", *map(str, folders)], check=True)
    notes = [folder.with_name(f"{folder.name}.dvc") for folder in folders]
    for folder, note in zip(folders, notes, strict=True):
        (saved,) = yaml.safe_load(note.read_text(encoding="utf-8"))["outs"]
        if (saved["nfiles"], saved["size"]) != (found := count(folder)):
            sys.exit(
                f"error: {folder} has {found[0]} files of {found[1]} bytes, but {saved['nfiles']} of {saved['size']} "
                "were saved: if something is still at work there, save again when it has ended"
            )
    subprocess.run(["git", "add", *map(str, notes)], check=True)


def links(folder: Path) -> Iterator[Path]:
    """Links to folders: this one, and those below it."""
    if folder.is_symlink():
        yield folder
    for place, names, _ in os.walk(folder):
        yield from (Path(place, name) for name in names if Path(place, name).is_symlink())


def count(folder: Path) -> tuple[int, int]:
    """Files, those that links lead to as well, and their bytes."""
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    sizes = [file.stat().st_size for file in files if not file.name.endswith(LEFT_OUT)]
    return len(sizes), sum(sizes)


if __name__ == "__main__":
    main()
