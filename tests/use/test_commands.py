"""`emorl segment`, `traverse` and `export`: the files, what is printed, and the sentences."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emorl.use.trained import load


@pytest.fixture
def wide_file(scenes, tmp_path):
    Image.fromarray(scenes[1]).resize((90, 60)).save(tmp_path / "wide.jpg")
    return tmp_path / "wide.jpg"


def test_segment_writes_what_the_model_gives(emorl, model_file, scene_file, tmp_path):
    emorl("segment", scene_file, "--checkpoint", model_file, "--out", tmp_path / "out", "--seed", 3)
    folder, found = tmp_path / "out" / "scene", load(model_file).segment(scene_file, seed=3)
    slots = [f"{kind}-{k}.png" for kind in ("mask", "slot") for k in range(4)]
    others = ["image.png", "labels.png", "reconstruction.png", "overview.png", "decomposition.npz"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(slots + others)

    arrays = np.load(folder / "decomposition.npz")
    for name in ("masks", "reconstructions", "latents", "reconstruction", "means"):
        np.testing.assert_array_equal(arrays[name], getattr(found, name)[0].numpy())
    np.testing.assert_array_equal(arrays["nll"], found.scalars["nll"][0].numpy())

    labels = Image.open(folder / "labels.png")
    assert labels.mode == "P"
    assert len(np.unique(np.reshape(labels.getpalette(), (-1, 3))[:4], axis=0)) == 4
    np.testing.assert_array_equal(np.asarray(labels), found.masks[0].argmax(0).numpy())
    np.testing.assert_array_equal(np.asarray(labels), arrays["labels"])

    def apart(name, values):
        return np.abs(np.asarray(Image.open(folder / name)) - 255 * values.numpy()).max()

    assert apart("reconstruction.png", found.reconstruction[0].permute(1, 2, 0)) <= 0.51
    for k in range(4):
        assert apart(f"mask-{k}.png", found.masks[0, k]) <= 0.51
        assert apart(f"slot-{k}.png", (found.masks[0, k] * found.reconstructions[0, k]).permute(1, 2, 0)) <= 0.51
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "image.png")), np.asarray(Image.open(scene_file)))


def test_segment_says_what_was_resized(emorl, model_file, scene_file, wide_file, tmp_path):
    output = emorl("segment", scene_file, wide_file, "--checkpoint", model_file, "--out", tmp_path / "out")
    assert "EfficientMORL, 12 x 12 pixels, trained on tetrominoes (replica), scale test, seed 0" in output
    assert f"{scene_file}: 12 x 12 pixels, as it is -> " in output
    assert f"{wide_file}: 90 x 60 pixels, of which the middle square of 60, resized to 12 x 12 -> " in output


def test_segment_for_scripts(emorl, model_file, scene_file, wide_file, tmp_path):
    output = emorl("segment", scene_file, wide_file, "--checkpoint", model_file, "--out", tmp_path / "out", "--json")
    scene, wide = [json.loads(line) for line in output.splitlines()]
    assert (wide["image"], wide["size"], wide["crop"]) == (str(wide_file), [90, 60], [15, 0, 75, 60])
    assert (scene["model"], scene["model_size"], scene["seed"], scene["slots"]) == ("emorl", 12, 0, 4)
    assert sum(scene["pixels"]) == 144
    assert scene["origin"]["data"]["source"] == "replica"
    for value in (*scene["files"].values(), *wide["files"].values()):
        assert all(Path(path).is_file() for path in (value if isinstance(value, list) else [value]))


def test_a_pictures_result_does_not_depend_on_the_others(emorl, model_file, scene_file, wide_file, tmp_path):
    for name, images in {"one": [scene_file], "both": [wide_file, scene_file]}.items():
        emorl("segment", *images, "--checkpoint", model_file, "--out", tmp_path / name)
    one, both = (np.load(tmp_path / name / "scene" / "decomposition.npz") for name in ("one", "both"))
    assert all(np.array_equal(one[name], both[name]) for name in one)


def test_pictures_of_one_name_keep_their_endings(emorl, model_file, scene_file, tmp_path):
    (tmp_path / "set").mkdir()
    for ending in ("png", "jpg"):
        Image.open(scene_file).convert("RGB").save(tmp_path / "set" / f"x.{ending}")
    emorl("segment", tmp_path / "set", "--checkpoint", model_file, "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"x.png", "x.jpg"}


def test_test_time_settings_can_be_changed(emorl, model_file, scene_file, tmp_path):
    for steps in (0, 3):
        out = ("--out", tmp_path / str(steps), "--inference", f"refinement_steps={steps}")
        emorl("segment", scene_file, "--checkpoint", model_file, *out)
        expected = load(model_file, {"refinement_steps": steps}).segment(scene_file).latents[0]
        found = np.load(tmp_path / str(steps) / "scene" / "decomposition.npz")["latents"]
        assert torch.equal(torch.from_numpy(found), expected)


def test_traverse(emorl, model_file, scene_file, tmp_path):
    options = ("--slot", 1, "--dimension", 2, "--dimension", 0, "--range", -2, 2, "--frames", 6)
    output = emorl("traverse", scene_file, "--checkpoint", model_file, "--out", tmp_path / "out", *options)
    assert "slots [1], dimensions [2, 0]" in output
    names = {path.name for path in (tmp_path / "out" / "scene").iterdir()}
    assert names == {"traversal.gif", "slot-1-dim-2.gif", "slot-1-dim-0.gif"}
    with Image.open(tmp_path / "out" / "scene" / "traversal.gif") as gif:
        assert gif.n_frames == 6


def test_export(emorl, run_folder, scene_file, tmp_path):
    output = emorl("export", run_folder("monet"), "-o", tmp_path / "monet.pt")
    assert output.startswith("MONet, 12 x 12 pixels, trained on tetrominoes (replica), scale test, seed 0, step")
    emorl("segment", scene_file, "--checkpoint", tmp_path / "monet.pt", "--out", tmp_path / "out")


def test_export_of_several_runs_is_a_sentence(emorl, tmp_path):
    said = emorl("export", tmp_path / "base-1", tmp_path / "base-2", "-o", tmp_path / "out.pt", refused=True)
    assert f"a file is made of one run: choose between {tmp_path}/base-1, {tmp_path}/base-2" in said


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("missing.png",), "missing.png: there is no such file"),
    (("a/scene.png", "b/scene.png"), "would both be written to"),
    (("scene.png", "--inference", "steps"), "must be KEY=VALUE"),
    (("scene.png", "--inference", "refinement_steps=many"), "must be KEY=VALUE with a number"),
    (("scene.png", "--checkpoint", "scene.png"), "scene.png is damaged or no checkpoint"),
])  # fmt: skip
def test_mistakes_are_one_sentence_and_write_nothing(
    arguments, sentence, emorl, model_file, scene_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = emorl("segment", "--checkpoint", model_file, *arguments, refused=True)
    assert said.startswith("error: ")
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "segments").exists()


def test_other_code_is_warned_of(own_folder, scene_file, tmp_path, monkeypatch, capfd):
    from emorl.commands.use import segment
    from emorl.runtime.files import read_json, write_json

    write_json(own_folder / "run.json", read_json(own_folder / "run.json") | {"computes": "0" * 10})
    segment([scene_file], own_folder, tmp_path / "out", as_json=True)
    output, warning = capfd.readouterr()
    json.loads(output)
    assert "was trained by code that computes something else than this" in warning


# ---- Folders, globs, clips ----


@pytest.fixture
def folder(scenes, tmp_path):
    """Pictures of three kinds, one in a sub-folder, and one that is damaged."""
    (tmp_path / "all" / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.webp", "more/c.jpg")):
        Image.fromarray(scenes[number]).resize((30, 20)).save(tmp_path / "all" / name)
    (tmp_path / "all" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "all" / "notes.txt").write_text("no picture either")
    return tmp_path / "all"


def test_a_folder_is_taken_picture_by_picture(emorl, model_file, folder, tmp_path):
    output = emorl("segment", folder, "--checkpoint", model_file, "--out", tmp_path / "out")
    for name in ("a.png", "b.webp", "more/c.jpg"):
        assert f"{folder / name}: 30 x 20 pixels, of which the middle square of 20, resized to 12 x 12 -> " in output
        assert (tmp_path / "out" / name).with_suffix("").joinpath("overview.png").is_file()
    assert output.splitlines()[-1].startswith("3 of 4 pictures were taken apart")
    assert not (tmp_path / "out" / "broken").exists()


def test_a_picture_that_cannot_be_read_keeps_no_other_from_being_taken(emorl, model_file, folder, tmp_path):
    names = [folder / name for name in ("a.png", "broken.png", "missing.png", "b.webp")]
    said = emorl("segment", *names, "--checkpoint", model_file, "--out", tmp_path / "out", refused=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]
    assert "broken.png is damaged, or not a PNG" in said
    assert "missing.png: there is no such file" in said


def test_a_glob_takes_what_it_says(emorl, model_file, folder, tmp_path):
    output = emorl("segment", f"{folder}/*.webp", "--checkpoint", model_file, "--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]
    assert "1 of 1 pictures" in output
    said = emorl("segment", f"{folder}/*.tiff", "--checkpoint", model_file, refused=True)
    assert "there are no PNG, JPEG or WebP pictures" in said


def test_a_clip_becomes_a_film(emorl, model_file, scenes, tmp_path):
    frames = [Image.fromarray(scene).resize((40, 30)) for scene in scenes[:3]]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=200)
    output = emorl("segment", tmp_path / "clip.gif", "--video", "--checkpoint", model_file, "--out", tmp_path / "out")
    assert f"clip.gif: 3 frames -> {tmp_path}/out/clip/film.gif" in output
    with Image.open(tmp_path / "out" / "clip" / "film.gif") as film:
        assert (film.n_frames, film.info["duration"]) == (3, 200)
        assert film.width > 7 * 96


def test_what_is_no_clip_is_refused(emorl, model_file, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    (tmp_path / "clip.mp4").write_bytes(b"no clip")
    said = emorl("segment", tmp_path / "clip.mp4", "--video", "--checkpoint", model_file, refused=True)
    assert "clip.mp4 is no GIF, WebP or PNG; ffmpeg, which reads other clips, is not installed" in said
