"""Pictures of one's own: found, split, cropped, prepared and noticed when they change, in every form that is read."""

import io
import tarfile

import h5py
import numpy as np
import pytest
from PIL import Image

from emorl.data import collections, own, store
from emorl.data.export import export_folder, export_npz
from emorl.data.settings import FolderSettings
from emorl.runtime.errors import UserError
from emorl.runtime.files import sha256_of_file

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (10, 16, 20, 3), np.uint8)
LABELS = np.zeros((10, 16, 20), np.uint8)
LABELS[:, 2:6, 4:9], LABELS[:, 8:14, 10:16] = 3, 7


@pytest.fixture(autouse=True)
def hashes(tmp_path, monkeypatch):
    monkeypatch.setattr(collections, "HASHES", tmp_path / "hashes")


@pytest.fixture
def folder(tmp_path):
    """Ten pictures 20 x 16 in two sub-folders, of three kinds, one of them hidden away among other files."""
    for number, pixels in enumerate(PICTURES):
        place = tmp_path / "pictures" / ("train" if number < 6 else "held")
        place.mkdir(parents=True, exist_ok=True)
        name = f"{number}.{('png', 'webp', 'PNG')[number % 3]}"
        options = {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(pixels).save(place / name, **options)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def settings(images, **changes):
    return FolderSettings(**{"source": "folder", "images": str(images), "image_size": 16, "test": 2} | changes)


def made(tmp_path, chosen):
    own.note(chosen).write(tmp_path / "raw.json")
    own.prepare_pictures("mine", chosen, tmp_path / "raw.json", tmp_path / "prepared.h5", threads=2)
    return tmp_path / "prepared.h5"


def test_every_picture_is_in_one_split_and_looks_as_it_does(folder, tmp_path):
    chosen = settings(folder, validation=0.3)
    path = made(tmp_path, chosen)
    described = store.describe(path)
    assert described["counts"] == {"train": 5, "test": 2, "validation": 3}
    assert (described["source"], described["data_set"]) == ("folder", "mine")
    names = list(own.note(chosen).images)
    seen = []
    for split in store.SPLITS:
        for image, record in zip(store.load_images(path, split), store.load_records(path, split), strict=True):
            number = int(names[record].rpartition("/")[2].partition(".")[0])
            np.testing.assert_array_equal(image, PICTURES[number][:, 2:18])  # the middle square
            seen.append(number)
    assert sorted(seen) == list(range(10))
    assert store.load_split(path, "test").labels is None


def test_a_picture_that_is_added_moves_few_others(folder):
    before = own.note(settings(folder)).splits
    Image.fromarray(PICTURES[0]).save(folder / "more.png")
    after = own.note(settings(folder)).splits
    assert len(set(before["test"]) & set(after["test"])) >= 1
    assert set(before["train"]) - set(after["train"]) <= set(after["test"])


def test_a_changed_picture_gives_another_digest_and_an_unchanged_one_is_not_read_again(folder, monkeypatch):
    first = own.note(settings(folder))
    read = []
    monkeypatch.setattr(collections, "sha256_of_file", lambda path: read.append(path) or sha256_of_file(path))
    assert own.note(settings(folder)) == first
    assert read == []
    changed = next(iter(first.images))
    Image.fromarray(PICTURES[9]).save(folder / changed, format="PNG", compress_level=1)
    assert own.note(settings(folder)).digest != first.digest
    assert read == [folder / changed]


def test_a_picture_that_changes_after_it_was_noted_is_refused(folder, tmp_path):
    own.note(settings(folder)).write(tmp_path / "raw.json")
    Image.fromarray(PICTURES[9]).save(folder / "train" / "0.png")
    with pytest.raises(UserError, match="have changed since"):
        own.prepare_pictures("mine", settings(folder), tmp_path / "raw.json", tmp_path / "prepared.h5")


# ---- Splits ----


def test_splits_by_sub_folder_and_by_list(folder, tmp_path):
    (tmp_path / "test.txt").write_text("held/6.png\n\nheld/9.png\n")
    splits = own.note(settings(folder, train="train", test=str(tmp_path / "test.txt"), validation=1)).splits
    assert splits["test"] == ["held/6.png", "held/9.png"]
    assert all(name.startswith("train/") for name in splits["train"])
    assert len(splits["train"]) == 6
    assert set(splits["validation"]) < {"held/7.webp", "held/8.PNG"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": "absent"}, "no pictures in a sub-folder absent"),
        ({"test": 11}, "test asks for 11 pictures, but only 10"),
        ({"test": "held", "validation": "held"}, "is in two splits, test and validation"),
        ({"test": "none.txt"}, "no such list"),
        ({"test": 0}, "no picture for test"),
    ],
)
def test_splits_that_cannot_be_are_refused(folder, changes, message):
    with pytest.raises(UserError, match=message):
        own.note(settings(folder, **changes))


def test_a_glob_takes_its_pictures_alone(folder):
    note = own.note(settings(folder / "*" / "*.webp", test=1))
    assert list(note.images) == ["held/7.webp", "train/1.webp", "train/4.webp"]


def test_no_pictures_are_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        own.note(settings(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no PNG, JPEG or WebP pictures"):
        own.note(settings(tmp_path / "empty"))


# ---- Crops ----


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        ("whole picture", np.asarray(Image.fromarray(PICTURES[0]).resize((16, 16), Image.Resampling.NEAREST))),
        ("rows 0 to 15, columns 4 to 19", PICTURES[0][:, 4:]),
    ],
)
def test_crops_in_words(crop, expected):
    chosen = settings("unused", crop=crop, resize="nearest")
    np.testing.assert_array_equal(own.squared(Image.fromarray(PICTURES[0]), chosen), expected)


def test_a_crop_outside_of_the_picture_is_refused():
    with pytest.raises(UserError, match="not within a picture of 20 x 16"):
        own.squared(Image.fromarray(PICTURES[0]), settings("unused", crop="rows 0 to 16, columns 0 to 16"))
    with pytest.raises(ValueError, match="must be 'middle square'"):
        settings("unused", crop="centre")


# ---- Masks ----


def expected_labels(numbers):
    labels = LABELS[numbers][:, :, 2:18]
    return np.select([labels == 3, labels == 7], [1, 2], 0)


@pytest.mark.parametrize("form", ["grey", "coloured", "folders", "files"])
def test_masks(folder, tmp_path, form):
    for number, labels in enumerate(LABELS):
        place = tmp_path / "masks" / ("train" if number < 6 else "held")
        place.mkdir(parents=True, exist_ok=True)
        if form == "grey":
            Image.fromarray(labels).save(place / f"{number}.png")
        elif form == "coloured":
            colours = np.array([[0, 0, 0], [9, 0, 0], [200, 10, 0]], np.uint8)
            Image.fromarray(colours[np.select([labels == 3, labels == 7], [1, 2], 0)]).save(place / f"{number}.png")
        else:
            for name, label in (("a", 3), ("b", 7)):
                file = place / (f"{number}/{name}.png" if form == "folders" else f"{number}_{name}.png")
                file.parent.mkdir(exist_ok=True)
                Image.fromarray((labels == label).astype(np.uint8) * 255).save(file)
    chosen = settings(folder, masks=str(tmp_path / "masks"))
    split = store.load_split(made(tmp_path, chosen), "test")
    np.testing.assert_array_equal(split.labels, expected_labels([0, 1]))


def test_masks_of_another_shape_are_named(folder, tmp_path):
    for number in range(6):
        (tmp_path / "masks" / "train").mkdir(parents=True, exist_ok=True)
        Image.fromarray(LABELS[number][:8]).save(tmp_path / "masks" / "train" / f"{number}.png")
    with pytest.raises(UserError, match=r"its masks have 20 x 8 pixels, the picture 20 x 16"):
        made(tmp_path, settings(folder, masks=str(tmp_path / "masks"), test="train"))


def test_a_held_out_picture_without_masks_is_named(folder, tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="has no masks"):
        made(tmp_path, settings(folder, masks=str(tmp_path / "masks")))


# ---- Other forms ----


def write_npz(path):
    np.savez(path.with_suffix(".npz"), images=PICTURES, labels=LABELS)
    return path.with_suffix(".npz")


def write_hdf5(path):
    """As object-centric-library has it."""
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file["image"], file["mask"] = PICTURES, LABELS[..., None]
        file["num_actual_objects"] = np.full((10, 1), 2)
    return path.with_suffix(".hdf5")


def write_tars(path):
    for shard in range(2):
        with tarfile.open(path.with_name(f"mine-{shard}.tar"), "w") as tar:
            for number in range(5 * shard, 5 * shard + 5):
                for kind, array in (("png", PICTURES[number]), ("seg.png", LABELS[number])):
                    content = io.BytesIO()
                    Image.fromarray(array).save(content, "PNG")
                    member = tarfile.TarInfo(f"{number:06d}.{kind}")
                    member.size = content.tell()
                    content.seek(0)
                    tar.addfile(member, content)
    return path.with_name("mine-*.tar")


@pytest.mark.parametrize("write", [write_npz, write_hdf5, write_tars])
def test_other_forms_hold_the_same_pictures(tmp_path, write):
    chosen = settings(write(tmp_path / "mine"))
    path = made(tmp_path, chosen)
    numbers = store.load_records(path, "test")
    split = store.load_split(path, "test")
    np.testing.assert_array_equal(split.images, PICTURES[numbers][:, :, 2:18])
    np.testing.assert_array_equal(split.labels, expected_labels(numbers))
    assert store.describe(path)["counts"]["train"] == 8


@pytest.mark.parametrize(
    ("arrays", "message"),
    [({"pictures": PICTURES}, "cannot be read"), ({"images": PICTURES[..., 0]}, r"must be \(N, H, W, 3\)")],
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(UserError, match=message):
        own.note(settings(tmp_path / "mine.npz"))


# ---- Out ----


def test_an_exported_folder_can_be_read_as_pictures_of_ones_own(prepared, tmp_path):
    export_folder(prepared, tmp_path / "out")
    images, masks = tmp_path / "out" / "images", tmp_path / "out" / "labels"
    chosen = settings(images, masks=str(masks), image_size=12, train="train", test="test", validation="validation")
    path, original = made(tmp_path, chosen), store.load_split(prepared, "test")
    np.testing.assert_array_equal(store.load_images(path, "train"), store.load_images(prepared, "train"))
    np.testing.assert_array_equal(store.load_split(path, "test").images, original.images)
    rows = (tmp_path / "out" / "test.csv").read_text().splitlines()
    assert rows[0] == "image,record,entity,color,shape,visibility,x,y"
    assert len(rows) == 1 + 4 * len(original.images)
    assert rows[1].startswith("000000,64,0,")  # the first after 64 records for training


def test_exported_arrays(prepared, tmp_path):
    export_npz(prepared, tmp_path)
    original = store.load_split(prepared, "test")
    with np.load(tmp_path / "test.npz") as arrays:
        np.testing.assert_array_equal(arrays["labels"], original.labels)
        np.testing.assert_array_equal(arrays["factor_shape"], original.factors["shape"])
        np.testing.assert_array_equal(arrays["records"], np.arange(64, 80))  # after those for training
    with np.load(tmp_path / "train.npz") as arrays:
        assert "labels" not in arrays  # nothing in training may see them
