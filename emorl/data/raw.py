"""Raw files: the published records of a data set, a replica of them, or a note of the authors' processed files."""

import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import torch

from emorl.data import data_set
from emorl.data.checksums import write_record
from emorl.data.description import DataSet, Published, split_counts
from emorl.data.download import download
from emorl.data.processed import note_files
from emorl.data.settings import DataSettings
from emorl.data.tfrecords import LayoutError, decode, read_payloads, write_examples
from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path
from emorl.runtime.progress import progress, progress_bar


def fetch(description: DataSet, settings: DataSettings, path: Path, processes: int = 1) -> None:
    """Bring the raw file that `settings` asks for to `path`; raises the errors of `download` and `note_files`.

    A replica is drawn by `processes` processes.
    """
    if settings.source == "published" and description.as_published.unpack and not path.exists():
        page = description.as_published.url.rpartition("/")[0]
        raise UserError(
            f"{description.title} is published as folders: download and unpack them from {page}, then "
            f"'emorl fetch --scale ... --dataset {description.name} --from FOLDER'"
        )
    if settings.source == "published":
        alternative = f"take a copy of that file, 'emorl fetch --scale SCALE --dataset {description.name} --from FILE'"
        if description.replica is not None:
            alternative += f", or set datasets.{description.name}.source to replica in the file under params/"
        download(description.as_published.url, path, alternative)
    elif settings.source == "processed":
        note_files(description, path)
    else:
        _write_replica(description, settings, path, processes)


def link(description: DataSet, settings: DataSettings, source: Path, path: Path) -> None:
    """Let the user's own file `source` stand, as a link, where the raw file `path` belongs. Raises UserError.

    Of processed data, `source` is the folder that holds the authors' files; of what is published as folders, that
    which holds these, and its records are packed into the raw file.
    """
    if settings.source == "published" and description.as_published.unpack:
        _pack(description.as_published, source, path)
        return
    if settings.source == "replica":
        raise UserError("a replica is drawn, not taken from files: set source to published or processed under params/")
    links = {path: source}
    if settings.source == "processed":
        links = {path.parent / file.name: file for file in source.glob("*.h5")}
    if not source.exists() or not links:
        raise UserError(f"{source}: there is no such file, or no HDF5 file in this folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, file in links.items():
        if place.exists() and not place.samefile(file):
            raise UserError(f"{place} is there already, and another file than {file}: delete one of them first")
        if settings.source == "published":
            _check_first_record(description, file)
        if not place.exists():
            place.unlink(missing_ok=True)  # a link to nothing
            place.symlink_to(file.resolve())


def _check_first_record(description: DataSet, file: Path) -> None:
    if file.is_dir():
        raise UserError(f"{file} is a folder; {description.title} as published is one GZIP TFRecord file")
    first = next(read_payloads(file), None)
    if first is None:
        raise UserError(f"{file} holds no record")
    try:
        dict(decode(first, description.as_published.layout))
    except LayoutError as error:
        raise UserError(f"{file} is not {description.title} as published: {error}") from None


# ---- replicas ----


def _pack(published: Published, folder: Path, path: Path) -> None:
    if path.exists():
        raise UserError(f"{path} is there already: delete it first to pack {folder}")
    assert published.unpack is not None
    with atomic_path(path) as temporary:
        records = progress(published.unpack(folder), "pack", "scenes", published.records)
        write_examples(temporary, records, published.layout, path.name)


def _write_replica(description: DataSet, settings: DataSettings, path: Path, processes: int) -> None:
    """Write a replica as long as the splits together; the same seed writes the same bytes, wherever they go.

    Shards are written side by side, each to a file of its own in PATH.shards/, where an interrupted call leaves them
    for the next. A gzip stream may consist of several, so the shards' bytes, one after the other, are the replica.
    """
    replica, folder = description.as_replica, path.with_name(path.name + ".shards")
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(split_counts(settings).values())
    sizes = [min(replica.shard_size, total - start) for start in range(0, total, replica.shard_size)]
    shards = [folder / f"{index:05d}" for index in range(len(sizes))]
    missing = [index for index, shard in enumerate(shards) if not shard.exists()]
    done = total - sum(sizes[index] for index in missing)
    with progress_bar(f"{description.name} replica", total, " scenes", initial=done) as progress:
        work = [(description.name, settings, index, sizes[index], shards[index]) for index in missing]
        for index in _in_processes(work, min(processes, len(work))):
            progress.update(sizes[index])
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:
            for shard in shards:
                with open(shard, "rb") as part:
                    shutil.copyfileobj(part, file)
        write_record(path, temporary, source="replica", of=description.name, seed=settings.replica_seed, records=total)
    shutil.rmtree(folder)


def _in_processes(work: list[tuple], processes: int) -> Iterator[int]:
    """Write the shards of `work`, and yield the number of each as soon as it is there."""
    if processes <= 1:
        for arguments in work:
            yield _write_shard(*arguments)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked copy of torch's threads would hang
    with ProcessPoolExecutor(processes, spawn, initializer=_one_thread) as pool:
        futures = [pool.submit(_write_shard, *arguments) for arguments in work]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """There are as many processes as cores already."""
    torch.set_num_threads(1)


def _write_shard(name: str, settings: DataSettings, index: int, size: int, path: Path) -> int:
    replica, seed = data_set(name).as_replica, settings.replica_seed
    records = islice(replica.shard(seed, index, settings.image_size), size)
    with atomic_path(path) as temporary:
        header = f"{name}_replica_seed{seed}_{index:05d}.tfrecords"
        write_examples(temporary, records, replica.layout(settings.image_size), header)
    return index
