"""Raw files: the published records of a data set, or a replica of them in the same format."""

from pathlib import Path

from emorl.data.checksums import write_record
from emorl.data.description import DataSet, split_counts
from emorl.data.download import download
from emorl.data.settings import DataSettings
from emorl.data.tfrecords import write_examples
from emorl.files import atomic_path


def fetch(description: DataSet, settings: DataSettings, path: Path) -> None:
    """Bring the records that `settings` asks for to `path`; raises the errors of `download`."""
    if settings.source == "published":
        download(
            description.url,
            path,
            f"set datasets.{description.name}.source to replica in the file under params/",
        )
    else:
        _write_replica(description, settings, path)


def _write_replica(description: DataSet, settings: DataSettings, path: Path) -> None:
    """Write a replica as long as the splits together; the same seed writes the same bytes, wherever they go."""
    seed, count = settings.replica_seed, sum(split_counts(settings).values())
    name = f"{description.name}_replica_seed{seed}_{count}.tfrecords"
    with atomic_path(path) as temporary:
        write_examples(temporary, description.generate(count, seed), description.layout, name)
        write_record(path, temporary, source="replica", of=description.name, seed=seed, records=count)
