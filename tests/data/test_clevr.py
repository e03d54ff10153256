"""CLEVR: the rules of its scenes, what its factors say, which published scenes are taken, and its replica."""

import os
from collections.abc import Mapping
from itertools import combinations, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from emorl.data import clevr, clevr6, clevr10, data_set
from emorl.data.clevr_renderer import HEIGHT, WIDTH, Solid, Window, World, entities, render
from emorl.data.clevr_scenes import (
    CAMERA,
    CAMERA_JITTER,
    DIRECTIONS,
    FIELD,
    GAP,
    LAMP_JITTER,
    LAMPS,
    MARGIN,
    RADII,
    VISIBLE,
    draw_solids,
    draw_worlds,
)
from emorl.data.prepare import prepare
from emorl.data.store import describe, load_split
from emorl.data.tfrecords import decode, encode, write_examples

SIZE = 12
DATA_SETS = [clevr6.DATA_SET, clevr10.DATA_SET]


@pytest.fixture(scope="module")
def drawn():
    return draw_worlds([np.random.default_rng(seed) for seed in range(12)], 3, 10)


@pytest.fixture(scope="module")
def replica():
    return list(islice(clevr6.DATA_SET.replica.shard(5, 2, SIZE), 4))


# ---- scenes ----


@pytest.mark.parametrize("count", [3, 10])
def test_objects_keep_their_distance(count):
    generator = np.random.default_rng(count)
    for _ in range(20):
        solids = draw_solids(count, generator)
        assert len(solids) == count
        for solid in solids:
            assert solid.radius in RADII
            assert max(abs(solid.x), abs(solid.y)) <= FIELD
        for one, other in combinations(solids, 2):
            apart = np.array([one.x - other.x, one.y - other.y])
            assert np.linalg.norm(apart) - one.radius - other.radius >= GAP
            assert (np.abs(np.array(DIRECTIONS) @ apart) >= MARGIN).all()


def test_directions_are_those_of_the_published_scenes():
    np.testing.assert_allclose(DIRECTIONS[0], [-0.75449, 0.65631], atol=1e-5)
    np.testing.assert_allclose(DIRECTIONS[1], [-0.65631, -0.75449], atol=1e-5)


def test_shapes_materials_and_colours_are_drawn_uniformly():
    generator = np.random.default_rng(0)
    solids = [solid for _ in range(400) for solid in draw_solids(4, generator)]
    for name, codes in (("shape", 3), ("material", 2), ("color", 8)):
        counts = np.bincount([getattr(solid, name) for solid in solids], minlength=codes + 1)
        assert counts[0] == 0
        assert stats.chisquare(counts[1:]).pvalue > 0.01
    assert stats.kstest([solid.rotation / 360 for solid in solids], "uniform").pvalue > 0.01


def test_drawn_scenes_show_all_objects(drawn):
    worlds, labels = drawn
    assert labels.shape == (12, HEIGHT, WIDTH)
    for world, label in zip(worlds, labels, strict=True):
        assert 3 <= len(world.solids) <= 10
        areas = np.bincount(label.ravel())
        assert len(areas) == len(world.solids) + 1
        assert areas.min() >= VISIBLE
        assert np.abs(world.camera - CAMERA).max() <= CAMERA_JITTER
        assert np.abs(world.lamps - LAMPS).max() <= LAMP_JITTER
    assert len({len(world.solids) for world in worlds}) > 3


def test_a_scene_does_not_depend_on_the_others(drawn):
    worlds, labels = drawn
    for seed in (3, 7):
        (world,), (label,) = draw_worlds([np.random.default_rng(seed)], 3, 10)
        assert world.solids == worlds[seed].solids
        assert np.array_equal(label, labels[seed])


# ---- factors ----


def test_factors_say_what_shows(drawn):
    for world, label in zip(*drawn, strict=True):
        factors = clevr.factors(world)
        for k, solid in enumerate(world.solids, 1):
            column, row, depth = factors["pixel_coords"][k]
            assert np.isclose(depth, np.linalg.norm(solid.center - world.camera), rtol=0.1)
            seen = label[int(row), int(column)]  # the object, or a nearer one that hides its middle
            assert seen == k or factors["pixel_coords"][seen, 2] < depth
            rows, columns = np.nonzero(label == k)
            reach = 1.7 * 350 * solid.radius / depth
            assert np.hypot(rows - row, columns - column).max() < reach


def test_factors_are_coded_as_published():
    large, small = Solid(1.5, -2, 0.7, 300, 1, 1, 8), Solid(0, 1, 0.35, 10, 3, 2, 5)
    factors = clevr.factors(World(CAMERA, LAMPS, [large, small]))
    names = {factor.name: factor.codes for factor in clevr.FACTORS}
    assert names.keys() == factors.keys()
    coded = {name: [names[name][code] for code in factors[name][:3]] for name in ("size", "shape", "material", "color")}
    assert coded == {
        "size": ["none", "large", "small"],
        "shape": ["none", "sphere", "cube"],
        "material": ["none", "rubber", "metal"],
        "color": ["none", "yellow", "brown"],
    }
    assert factors["x"][:3].tolist() == [0, 1.5, 0]
    assert factors["z"][:3].tolist() == pytest.approx([0, 0.7, 0.35])
    assert factors["rotation"][:3].tolist() == [0, 300, 10]
    assert factors["visibility"].tolist() == [1, 1, 1, *[0] * 8]
    for name, values in factors.items():
        assert not values[3:].any()
        assert name == "visibility" or not values[0].any()


# ---- published records ----


class Undecoded(Mapping):
    """A record of which only the number of objects may be looked at."""

    def __init__(self, count):
        self.visibility = np.arange(clevr.ENTITIES, dtype=np.float32) <= count

    def __getitem__(self, name):
        assert name == "visibility"
        return self.visibility

    def __iter__(self):
        raise AssertionError

    __len__ = __iter__


def published(count):
    """A record whose crop differs from what is around it, with objects as squares in their own rows."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(1, count + 1):
        labels[29 + 10 * k : 39 + 10 * k, 64 + 10 * k : 74 + 10 * k] = k
    labels[:29, :64] = 1  # outside of the crop
    mask = (labels == np.arange(clevr.ENTITIES)[:, None, None])[..., None] * np.uint8(255)
    image = np.stack(np.broadcast_arrays(*np.mgrid[:HEIGHT, :WIDTH], 0), axis=-1).astype(np.uint8)
    visibility = (np.arange(clevr.ENTITIES) <= count).astype(np.float32)
    return {"image": image, "mask": mask, "visibility": visibility}, labels


@pytest.mark.parametrize(("data_set", "counts"), [(clevr6.DATA_SET, range(3, 7)), (clevr10.DATA_SET, range(7, 11))])
def test_published_scenes_are_taken_by_their_number_of_objects(data_set, counts):
    for count in range(3, 11):
        record, labels = published(count)
        assert clevr.number_of_objects(record) == count
        if count in counts:
            scene = data_set.published.scene(record)
            assert np.array_equal(scene.labels, labels[29:221, 64:256])
            assert scene.labels.dtype == np.uint8
            assert scene.image.shape == (192, 192, 3)
            assert scene.image[0, 0].tolist() == [29, 64, 0]
        else:
            assert data_set.published.scene(Undecoded(count)) is None


# ---- replica ----


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_replica_scenes_have_as_many_objects_as_published_ones(data_set):
    fewest, most = {"clevr6": (3, 6), "clevr10": (7, 10)}[data_set.name]
    for record in islice(data_set.replica.shard(0, 0, SIZE), 3):
        assert fewest <= clevr.number_of_objects(record) <= most


def test_replicas_of_the_same_seed_share_no_object():
    x = [{*next(data_set.replica.shard(0, 0, SIZE))["x"].tolist()} - {0.0} for data_set in DATA_SETS]
    assert not x[0] & x[1]


def test_replica_records_have_their_layout(replica):
    layout = clevr6.DATA_SET.replica.layout(SIZE)
    for record in replica:
        decoded = decode(encode(record, layout), layout)
        for name, values in record.items():
            assert np.array_equal(decoded[name], values)
        scene = clevr6.DATA_SET.replica.scene(record)
        assert scene.image.shape == (SIZE, SIZE, 3)
        assert scene.labels.shape == (192, 192)
        assert scene.labels.max() <= clevr.number_of_objects(record)


def test_replica_records_depend_on_seed_shard_and_place_alone(replica):
    shard = clevr6.DATA_SET.replica.shard
    for again, record in zip(shard(5, 2, SIZE), replica, strict=False):
        assert all(np.array_equal(again[name], values) for name, values in record.items())
    others = [next(shard(5, 3, SIZE)), next(shard(6, 2, SIZE)), replica[1]]
    assert all((other["image"] != replica[0]["image"]).any() for other in others)
    assert np.array_equal(next(shard(5, 2, SIZE + 4))["labels"], replica[0]["labels"])


def test_a_replica_is_drawn_on_the_cpu_alone(replica, monkeypatch):
    """By a process per core, each of which would open a GPU that no lock gives it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("a GPU is opened"))
    again = next(clevr6.DATA_SET.replica.shard(5, 2, SIZE))
    assert np.array_equal(again["image"], replica[0]["image"])


# ---- a published record ----


def real_record():
    """Record 0, its `y`, camera and lamps solved or fitted, as they are not published."""
    folder = os.environ.get("EMORL_REAL_RECORDS")
    path = Path(folder or ".") / "clevr_record0_factors.npz"
    return dict(np.load(path)) if folder and path.exists() else None


@pytest.mark.skipif(real_record() is None, reason="needs a folder of published records")
def test_rendering_is_near_to_a_published_record():
    record = real_record()
    x, y, rotation = record["x"], record["y_first2_given_rest_solved"], record["rotation"]
    solids = [
        Solid(
            x[k],
            y[k],
            RADII[record["size"][k] - 1],
            rotation[k],
            *(record[n][k] for n in ("shape", "material", "color")),
        )
        for k in range(1, 1 + clevr.number_of_objects(record))
    ]
    world = World(record["camera_solved"], record["lights_fitted"].astype(float), solids)

    coords = clevr.factors(world)["pixel_coords"]
    assert np.abs(coords - record["pixel_coords"])[:, :2].max() <= 1
    assert np.abs(coords - record["pixel_coords"])[:, 2].max() < 0.01

    labels = record["mask"].argmax(axis=0)
    assert (entities([world])[0] == labels).mean() >= 0.99
    (image,) = render([world], [np.random.default_rng(0)], Window.whole())
    error = np.abs(image.astype(float) - record["image"])
    assert error[labels > 0].mean() <= 12
    assert error[labels == 0].mean() <= 4


def test_published_records_are_filtered_cropped_and_resized_in_preparation(tmp_path):
    """Through the published container: four records, two of them with too many objects."""
    rng, written = np.random.default_rng(0), []
    for objects in (6, 7, 3, 10):
        labels = rng.integers(0, objects + 1, (HEIGHT, WIDTH))
        record = {feature.name: np.zeros(feature.shape, feature.dtype) for feature in clevr.LAYOUT}
        record["image"] = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        record["mask"] = ((labels == np.arange(11)[:, None, None]) * np.uint8(255))[..., None]
        record["visibility"][: objects + 1] = 1
        written.append((record, labels))
    write_examples(tmp_path / "clevr.tfrecords", (record for record, _ in written), clevr.LAYOUT, "clevr")
    asked = SimpleNamespace(
        source="published", image_size=96, train=9, test=1, validation=0, fewer_train=True, replica_seed=0
    )
    prepare(data_set("clevr6"), asked, tmp_path / "clevr.tfrecords", tmp_path / "clevr6.h5")
    assert describe(tmp_path / "clevr6.h5")["counts"] == {"train": 1, "test": 1, "validation": 0}
    test, (record, labels) = load_split(tmp_path / "clevr6.h5", "test"), written[2]
    cropped = Image.fromarray(record["image"][29:221, 64:256])
    np.testing.assert_array_equal(test.images[0], np.asarray(cropped.resize((96, 96), Image.Resampling.BICUBIC)))
    np.testing.assert_array_equal(test.labels[0], labels[29:221, 64:256])
    assert test.factors["visibility"].sum() == 4
