"""The registry: every described data set keeps the promises that the shared parts build on."""

import numpy as np
import pytest

from emorl.data import data_set, data_sets
from emorl.runtime.errors import UserError


def test_data_sets_are_found_by_the_name_of_their_module():
    papers = {"tetrominoes", "multi_dsprites", "multi_dsprites_textured", "clevr6", "clevr10"}
    others = {"multi_dsprites_binarized", "multi_dsprites_colored", "objects_room", "clevrtex"}
    assert papers | others <= data_sets().keys()
    for name, described in data_sets().items():
        assert data_set(name) is described
        assert described.name == name


@pytest.mark.parametrize("name", ["clevr", "tfrecords", "", "os", "../tetrominoes"])
def test_unknown_name_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(UserError, match=f"{name!r}; there are: .*tetrominoes"):
        data_set(name)


@pytest.mark.parametrize("name", [name for name, described in data_sets().items() if described.replica])
def test_replica_records_have_the_layout_and_a_scene(name):
    described, image_size = data_set(name), 16
    record = next(described.replica.shard(0, 0, image_size))
    layout = described.replica.layout(image_size)
    assert {feature.name for feature in layout} == record.keys()
    for feature in layout:
        assert (record[feature.name].shape, record[feature.name].dtype) == (feature.shape, feature.dtype)
    image, labels = described.replica.scene(record)
    assert image.dtype == labels.dtype == np.uint8
    assert image.shape[0] == image.shape[1]
    assert labels.ndim == 2
    assert labels.max() < len(record[described.factors[0].name])
    for factor in described.factors:
        if factor.type == "discrete":
            assert set(np.unique(record[factor.name])) <= factor.codes.keys()


@pytest.mark.parametrize("name", data_sets())
def test_published_layout_has_every_factor(name):
    described = data_set(name)
    if described.published:
        names = {feature.name for feature in described.published.layout}
        shown = "labels" if described.published.unpack else "mask"  # what is packed has a label image
        assert {"image", shown, *(factor.name for factor in described.factors)} <= names


def test_what_is_published_has_a_raw_file_of_its_own_kind():
    files = {str(described.published.file) for described in data_sets().values() if described.published}
    assert "tetrominoes/tetrominoes_train.tfrecords" in files
    assert "clevrtex/clevrtex_full.tfrecords" in files
    assert all(file.endswith(".tfrecords") for file in files)
