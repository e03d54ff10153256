"""Checkpoints: a run's and the portable one are the same model; none is believed that lies, none may run code."""

import contextlib
import hashlib
import io
import json
import os

import pytest
import torch
from damage import MANY, damaged
from hypothesis import given, settings

from emorl.models import model_names
from emorl.pipeline.portable import FORMAT, export, read_checkpoint
from emorl.runtime.errors import UserError
from emorl.runtime.files import read_json, write_json
from emorl.use.trained import load


@pytest.mark.parametrize("name", model_names())
def test_a_portable_checkpoint_is_the_run(name, run_folder, tmp_path):
    folder, path = run_folder(name), tmp_path / "portable.pt"
    export(folder, path)
    one, other = load(folder / "checkpoint.pt"), load(path)
    weights, others = one.model.state_dict(), other.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert (one.inference, one.model.settings) == (other.inference, other.model.settings)
    assert one.checkpoint.origin == other.checkpoint.origin
    assert path.stat().st_size < (folder / "checkpoint.pt").stat().st_size / 2  # no optimiser


def test_it_says_where_it_comes_from(own_folder):
    record, origin = read_json(own_folder / "run.json"), read_checkpoint(own_folder).origin
    for key in ("scale", "dataset", "variant", "seed", "digest", "computes", "data"):
        assert origin.model_dump()[key] == record[key]
    assert origin.step == origin.steps == record["steps"]
    assert "Slot Attention, 12 x 12 pixels, trained on tetrominoes (replica)" in str(read_checkpoint(own_folder))


def test_other_code_is_noticed(own_folder, model_file):
    assert not read_checkpoint(model_file).computes_otherwise()
    write_json(own_folder / "run.json", read_json(own_folder / "run.json") | {"computes": "0" * 10})
    assert read_checkpoint(own_folder).computes_otherwise()


# ---- Test-time settings ----


def test_test_time_settings_are_those_of_the_runs_evaluation(own_folder):
    assert read_checkpoint(own_folder).inference == {"iterations": 2}
    assert load(own_folder).inference.iterations == 2


def test_they_can_be_changed(own_folder):
    assert load(own_folder, {"iterations": 7}).inference.iterations == 7
    with pytest.raises(UserError, match=r"rounds: Extra inputs are not permitted \(known keys: iterations\)"):
        load(own_folder, {"rounds": 7})


def test_they_must_be_given_where_params_do_not_have_them(own_folder):
    write_json(own_folder / "run.json", read_json(own_folder / "run.json") | {"variant": "mine"})
    with pytest.raises(UserError, match=r"iterations: Field required"):
        load(own_folder)
    assert load(own_folder, {"iterations": 1}).inference.iterations == 1


# ---- What is refused ----


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def content_of(path):
    return torch.load(io.BytesIO(path.read_bytes()[:-32]), weights_only=True)


def write(path, content, **options):
    """A file as checkpoints are, with a checksum that is right."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused(zipped, model_file, tmp_path):
    content = content_of(model_file) | {"extra": Malicious(str(tmp_path / "harm"))}
    write(tmp_path / "model.pt", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="which could run code"):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "harm").exists()


def other_weights(content):
    return content | {"weights": {**content["weights"], "encoder.strange": torch.zeros(2)}}


def other_shapes(content):
    return content | {"image_size": content["image_size"] + 4, "settings": content["settings"] | {"D": 5}}


def no_numbers(content):
    return content | {"weights": {key: weight * torch.nan for key, weight in content["weights"].items()}}


@pytest.mark.parametrize(("change", "sentence"), [
    (no_numbers, "the weights are no finite numbers, in .*: the training had diverged"),
    (lambda c: c | {"name": "vae"}, "unknown model 'vae'"),
    (lambda c: c | {"image_size": 10**9}, "image_size: Input should be less than"),
    (lambda c: c | {"weights": [1, 2]}, "weights: Input should be a valid dictionary"),
    (lambda c: c | {"weights": {"a": "b"}}, r"weights\.a: Input should be an instance of Tensor"),
    (lambda c: c | {"settings": c["settings"] | {"wings": 2}}, "wings: Extra inputs are not permitted"),
    (lambda c: {key: value for key, value in c.items() if key != "origin"}, "origin: Field required"),
    (lambda c: c | {"format": "emorl portable checkpoint 9"}, "neither a run's checkpoint.pt nor"),
    (other_weights, r'weights are not those of emorl: Unexpected key\(s\) in state_dict: "encoder.strange"'),
    (other_shapes, "weights are not those of emorl: size mismatch"),
    (lambda c: c["weights"], "neither a run's checkpoint.pt nor"),
    (lambda c: 3, "neither a run's checkpoint.pt nor"),
])  # fmt: skip
def test_an_untruthful_file_is_refused(change, sentence, model_file, tmp_path):
    write(tmp_path / "model.pt", change(content_of(model_file)))
    with pytest.raises(UserError, match=sentence) as error:
        load(tmp_path / "model.pt")
    assert len(str(error.value).splitlines()) == 1


def test_what_is_no_checkpoint_is_refused(scene_file, tmp_path):
    empty = tmp_path / "empty.pt"
    empty.touch()
    for path in (scene_file, empty):
        with pytest.raises(UserError, match="is damaged or no checkpoint"):
            load(path)
    for missing in (tmp_path / "missing.pt", tmp_path):
        with pytest.raises(UserError, match="there is no such checkpoint"):
            load(missing)


def test_a_healthy_file_of_others_is_not_called_damaged(model_file, tmp_path):
    torch.save(content_of(model_file)["weights"], tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=r"is a PyTorch file of another program.*'emorl import'"):
        load(tmp_path / "theirs.pth")
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1234567\n")
    with pytest.raises(UserError, match=r"is a pointer of Git LFS.*'git lfs pull'"):
        load(tmp_path / "pointer.pt")


def test_damaged_content_under_a_right_checksum(model_file, tmp_path):
    @settings(parent=MANY, max_examples=30)
    @given(damaged(model_file.read_bytes()[:-32]))
    def check(content):
        (tmp_path / "model.pt").write_bytes(content + hashlib.sha256(content).digest())
        with contextlib.suppress(UserError):
            load(tmp_path / "model.pt")

    check()


def test_a_damaged_record_beside_a_checkpoint(own_folder):
    @settings(parent=MANY, max_examples=30)
    @given(damaged((own_folder / "run.json").read_bytes()))
    def check(content):
        (own_folder / "run.json").write_bytes(content)
        with contextlib.suppress(UserError):
            read_checkpoint(own_folder)

    check()


def test_a_damaged_file_is_refused(model_file, tmp_path):
    content = bytearray(model_file.read_bytes())
    content[len(content) // 2] ^= 1
    for wrong in (content, content[: len(content) // 2]):
        (tmp_path / "model.pt").write_bytes(wrong)
        with pytest.raises(UserError, match="its checksum does not match"):
            load(tmp_path / "model.pt")


def test_a_checkpoint_without_its_record_is_refused(own_folder):
    (own_folder / "run.json").unlink()
    with pytest.raises(UserError, match=r"has no run.json beside it.*emorl export"):
        load(own_folder / "checkpoint.pt")


@pytest.mark.parametrize(("path", "value"), [(("digest",), "0123456789"), (("config", "model", "K"), 9)])
def test_a_checkpoint_with_the_record_of_another_run_is_refused(path, value, own_folder):
    record = read_json(own_folder / "run.json")
    target = record
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    write_json(own_folder / "run.json", record)
    with pytest.raises(UserError, match="not of the same run, or were changed"):
        load(own_folder)


def test_export_needs_a_run_folder_and_leaves_nothing_behind(own_folder, tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        export(tmp_path / "missing", tmp_path / "out.pt")
    (own_folder / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match="no such checkpoint"):
        export(own_folder, tmp_path / "out.pt")
    assert not list(tmp_path.glob("*out.pt*"))


def test_the_file_is_plain_data(model_file):
    content = content_of(model_file)
    assert content["format"] == FORMAT
    json.dumps({key: value for key, value in content.items() if key != "weights"})
