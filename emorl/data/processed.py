"""The HDF5 files that the paper's authors processed and published (Zenodo 4895643), as another source of records.

    imgs      (N, H, W, 3) uint8, as recorded: CLEVR is cropped when it is read
    masks     (N, entities, H, W, 1) uint8, 0 or 255
    factors   (N, entities, columns), in some of the files

each in a group that is called `train` or `test`, and not always after what the file is for.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from emorl.data.checksums import Fingerprint
from emorl.data.description import DataSet, Processed
from emorl.data.tfrecords import Record
from emorl.runtime.errors import UserError
from emorl.runtime.files import write_json
from emorl.runtime.records import read_as

FOLDER = Path("data/raw/processed")
"""Where the unzipped files are expected, relative to the project."""


def note_files(description: DataSet, path: Path) -> None:
    """Write the fingerprints of the data set's files, which lie beside `path`, to `path`. Raises UserError."""
    notes = {}
    for name in _names(description.as_processed).values():
        file = path.parent / name
        if not file.exists():
            raise UserError(
                f"{file}: there is no such file; unzip the authors' data (https://zenodo.org/records/4895643, about "
                "56 GB) there, or link a folder that has them with 'emorl fetch --from FOLDER'"
            )
        notes[name] = Fingerprint.of_file(file).model_dump()
    write_json(path, notes)


def read_split(description: DataSet, note: Path, split: str) -> Iterator[Record]:
    """The records of the file for `split` ("train" or "test"), in their order.

    Raises UserError where the file is not the noted one, is damaged, or is of another data set.
    """
    path = path_of(description, note, split)
    noted = read_as(dict[str, Fingerprint], note)
    if path.name not in noted:
        raise UserError(f"{note} says nothing of {path.name}: delete it to note the files anew")
    noted[path.name].verify(path, note)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield from _records(description, path, file)
    except (OSError, KeyError, RuntimeError) as error:  # what h5py raises on damage
        raise UserError(f"{path} is damaged, or not one of the authors' files: {error}") from error


def _records(description: DataSet, path: Path, file: h5py.File) -> Iterator[Record]:
    group = file["train"] if "train" in file else file["test"]
    _check_shapes(description, path, group)
    columns = description.as_processed.factor_columns
    for number in range(len(group["imgs"])):
        record = {"image": group["imgs"][number], "mask": group["masks"][number]}
        if columns and "factors" in group:
            record |= dict(zip(columns, group["factors"][number].T, strict=True))
        yield record


def _check_shapes(description: DataSet, path: Path, group: h5py.Group) -> None:
    features = {feature.name: feature.shape for feature in description.as_published.layout}
    height, width, channels = features["image"]
    (entities,), columns = features["visibility"], description.as_processed.factor_columns
    expected = {"imgs": (height, width, channels), "masks": (entities, height, width, 1)}
    if columns and "factors" in group:
        expected["factors"] = (entities, len(columns))
    for name, shape in expected.items():
        if group[name].shape[1:] != shape:
            raise UserError(
                f"{path}: {group[name].name} has entries of shape {group[name].shape[1:]}, those of "
                f"{description.title} have {shape}: is it the file of another data set?"
            )
        if len(group[name]) != len(group["imgs"]):
            raise UserError(
                f"{path}: {group[name].name} has {len(group[name])} entries for {len(group['imgs'])} images"
            )
        if name != "factors" and group[name].dtype != np.uint8:
            raise UserError(f"{path}: {group[name].name} holds {group[name].dtype} values; they must be uint8")


def path_of(description: DataSet, note: Path, split: str) -> Path:
    """The authors' file for `split`, beside the note."""
    return note.parent / _names(description.as_processed)[split]


def _names(processed: Processed) -> dict[str, str]:
    names = {"train": processed.train, "test": processed.test}
    return {split: name for split, name in names.items() if name is not None}
