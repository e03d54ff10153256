"""Published data sets beyond the paper's, read from files made here in the published form; their replicas."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from emorl.data import clevrtex, data_set, multi_dsprites_binarized, multi_dsprites_colored, objects_room
from emorl.data.prepare import prepare
from emorl.data.raw import fetch, link
from emorl.data.settings import DataSettings
from emorl.data.store import load_arrays, load_images, load_records, load_split
from emorl.data.tfrecords import write_examples
from emorl.runtime.errors import UserError


def wanted(image_size=64, train=4, test=2, validation=1):
    counts = {"train": train, "test": test, "validation": validation}
    return DataSettings(source="published", image_size=image_size, **counts, fewer_train=False, replica_seed=0)


def prepared(described, raw, out, **settings):
    """The prepared file of a file of records, as fetched."""
    fetch(described, wanted(**settings), raw)
    prepare(described, wanted(**settings), raw, out)
    return out


# ---- Multi-dSprites -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "fewest", "most", "channels"), [(multi_dsprites_binarized, 2, 3, 1), (multi_dsprites_colored, 1, 4, 3)]
)
def test_the_other_files_of_multi_dsprites(module, fewest, most, channels, tmp_path):
    scenes = list(module.draw_shard(0, 0, 64))
    assert {record["image"].shape for record in scenes} == {(64, 64, channels)}
    assert {record["mask"].shape for record in scenes} == {(64, 64, most + 1, 1)}
    visible = np.array([record["visibility"][1:].sum() for record in scenes])
    assert set(visible) == set(range(fewest, most + 1))
    counts = np.unique(visible, return_counts=True)[1]
    assert counts.min() > 0.7 * len(scenes) / len(counts)  # uniform
    for record in scenes[:50]:
        entity = record["mask"][..., 0].argmax(-1)
        assert (record["image"] == np.rint(255 * record["color"])[entity]).all()
        shown = (record["mask"][..., 0] > 0).sum((0, 1))
        assert ((shown[1:] >= 25) == (record["visibility"][1:] == 1)).all()

    raw = tmp_path / "raw.tfrecords"
    write_examples(raw, scenes[:7], module.LAYOUT, "published")
    out = prepared(module.DATA_SET, raw, tmp_path / "out.h5")
    images, test = load_images(out, "train"), load_split(out, "test")
    assert images.shape == (4, 64, 64, 3)
    assert (images[3] == scenes[3]["image"]).all()  # one channel is seen three times
    assert (test.labels[1] == scenes[5]["mask"][..., 0].argmax(-1)).all()
    assert test.factors["color"].shape == (2, most + 1, channels)


def test_colours_are_what_the_publisher_says():
    binary = np.stack([record["image"] for record in multi_dsprites_binarized.draw_shard(1, 0, 64)])
    assert set(np.unique(binary)) == {0, 255}
    colours = np.stack([record["color"] for record in multi_dsprites_colored.draw_shard(1, 0, 64)])
    assert np.abs(colours.mean((0, 1)) - 0.5).max() < 0.03
    assert np.abs(colours.var((0, 1)) - 1 / 12).max() < 0.01
    assert np.abs(np.corrcoef(colours[:, 0].T) - np.eye(3)).max() < 0.1  # of backgrounds: no greys


# ---- Objects Room ---------------------------------------------------------------------------------------------------


def room(number):
    """A made-up scene: sky above the floor, the wall's two halves between them, and `number` objects on it."""
    owner = np.zeros((64, 64), int)
    owner[40:] = 1
    owner[20:40, :32], owner[20:40, 32:] = 2, 3
    for k in range(number):
        owner[30:45, 5 + 20 * k : 15 + 20 * k] = 4 + k
    mask = np.uint8(255) * (owner == np.arange(7)[:, None, None])
    image = np.stack([owner * 30 + channel for channel in range(3)], -1).astype(np.uint8)
    return {"image": image, "mask": mask[..., None].astype(np.uint8)}


def test_the_room_is_the_background_of_objects_room(tmp_path):
    raw = tmp_path / "raw.tfrecords"
    write_examples(raw, [room(n % 4) for n in range(7)], objects_room.LAYOUT, "published")
    out = prepared(objects_room.DATA_SET, raw, tmp_path / "out.h5")
    first, second = load_split(out, "test").labels  # of no object and of one
    assert set(np.unique(first)) == {0}
    assert (second == (room(1)["mask"][4, ..., 0] > 0)).all()
    (third,) = load_split(out, "validation").labels
    assert set(np.unique(third)) == {0, 1, 2}
    assert (load_images(out, "train")[3] == room(3)["image"]).all()


# ---- ClevrTex -------------------------------------------------------------------------------------------------------

SCENES = 20


@pytest.fixture
def published(tmp_path):
    """ClevrTex as its archives unpack: folders of a thousand scenes (here: of ten), with files that are not read."""
    for number in range(SCENES):
        stem = tmp_path / "clevrtex_full" / str(number // 10) / f"CLEVRTEX_full_{number:06d}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.empty((240, 320, 4), np.uint8)
        pixels[:] = number, 100, 200, 255
        Image.fromarray(pixels, "RGBA").save(stem.with_suffix(".png"))
        Image.fromarray(pixels[..., 1]).save(stem.with_name(f"{stem.name}_depth_0001.png"))
        labels = np.zeros((240, 320), np.uint8)
        labels[60:120, 100:180], labels[150:200, 140:300] = 1, 2
        flat = Image.fromarray(labels).convert("P")
        flat.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 0])
        flat.save(stem.with_name(f"{stem.name}_flat.png"))
        write_description(stem.with_suffix(".json"), number)
    return tmp_path / "clevrtex_full"


def write_description(path, number):
    found = [("cube", "large"), ("monkey", "small"), ("sphere", "medium")]
    objects = [
        {"shape": shape, "size": size, "rotation": 10.0 * k, "3d_coords": [0.1 * number, -0.2, 0.4], "index": k + 1}
        | {"material": "poliigonbricks01", "color": "red", "pixel_coords": [1, 2, 3.0]}
        for k, (shape, size) in enumerate(found)
    ]
    path.write_text(json.dumps({"num_objects": 3, "ground_material": "whitemarble", "objects": objects}))


def test_clevrtex_is_packed_from_its_folders_and_split_as_the_benchmark_does(published, tmp_path):
    raw, described = tmp_path / "raw.tfrecords", data_set("clevrtex")
    settings = {"image_size": 128, "train": 16, "test": 2, "validation": 2}
    link(described, wanted(**settings), published, raw)
    shutil.rmtree(published)
    out = prepared(described, raw, tmp_path / "out.h5", **settings)
    numbers = {split: load_images(out, split)[:, 64, 64, 0].tolist() for split in ("train", "test", "validation")}
    assert numbers == {"train": [*range(4, 20)], "test": [0, 1], "validation": [2, 3]}
    assert load_records(out, "test").tolist() == [16, 17]
    test = load_arrays(out, "test")
    assert test["images"].shape[1:] == (128, 128, 3)
    labels = test["labels"][0]
    assert labels.shape == (128, 128)
    assert set(np.unique(labels)) == {0, 1, 2}
    corner = (60 - 24) * 128 / 192, (100 - 64) * 128 / 192  # of the first object, in the crop as it is resized
    rows, columns = np.nonzero(labels == 1)
    assert (rows.min(), columns.min()) == corner
    assert test["factors/visibility"][0].tolist() == [1] * 4 + [0] * 7
    assert test["factors/shape"][0, :4].tolist() == [0, 1, 4, 2]
    assert test["factors/size"][0, :4].tolist() == [0, 1, 3, 2]
    assert test["factors/x"][1, 1:4] == pytest.approx([0.1] * 3)
    assert test["factors/rotation"][1, 1:4].tolist() == [0, 10, 20]


def test_what_is_not_clevrtex_is_said(published, tmp_path):
    described, raw = data_set("clevrtex"), tmp_path / "raw.tfrecords"
    with pytest.raises(
        UserError, match=r"ClevrTex is published as folders: .* from https:\S*/clevrtex, then 'emorl fetch .* --from"
    ):
        fetch(described, wanted(128), raw)

    def refused(message):
        with pytest.raises(UserError, match=message):
            link(described, wanted(128), published, raw)
        assert not raw.exists()

    first = published / "1" / "CLEVRTEX_full_000019.json"
    first.write_text("{}")
    refused(r"CLEVRTEX_full_000019\.json is missing, or not as published: KeyError\('objects'\)")
    first.write_text(json.dumps({"objects": []}))
    refused(r"_flat\.png shows object 2, which CLEVRTEX_full_000019\.json does not describe")
    first.unlink()
    refused(r"CLEVRTEX_full_000019\.json is missing")
    write_description(first, 19)
    Image.new("RGB", (64, 64)).save(first.with_suffix(".png"))
    refused(r"000019\.png and its label image are not 320 x 240 pixels")
    (published / "0" / "CLEVRTEX_full_000003.png").unlink()
    refused(r"of 19 pictures, CLEVRTEX_full_000003\.png is missing")
    shutil.rmtree(published)
    published.mkdir()
    refused(r"there are no pictures CLEVRTEX_full_NUMBER\.png")


def test_factors_fit_the_layout():
    assert {factor.name for factor in clevrtex.FACTORS} < {feature.name for feature in clevrtex.LAYOUT}
