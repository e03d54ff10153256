"""`emorl archive` and `emorl recheck`: a bundle is checked from itself alone, and whatever is wrong is named."""

import hashlib
import json
import re
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from emorl.reporting.sharing.recheck import recheck
from emorl.runtime.errors import UserError

REPORT = "reports/test"


@pytest.fixture(scope="module")
def archived(finished, tmp_path_factory):
    """A copy of `finished` with its bundle, results.zip."""
    workspace = finished.copy(tmp_path_factory.mktemp("archived") / "workspace")
    workspace.run("python", "-m", "emorl", "archive", "--scale", "test", "--out", "results.zip", "--licence", "CC0-1.0")
    return workspace


@pytest.fixture
def bundle(archived, tmp_path):
    """The bundle, unpacked."""
    with zipfile.ZipFile(archived.root / "results.zip") as archive:
        archive.extractall(tmp_path / "bundle")
    return tmp_path / "bundle"


def mismatches(path):
    return [sentence for check in recheck(path) for sentence in check.mismatches]


def the_evaluation(bundle):
    return next(bundle.glob("runs/*/*/*/seed0/evaluation/decomposition-*.json"))


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def hash_anew(bundle):
    """As one would who wants a changed bundle to pass."""
    names = [line.partition("  ")[2] for line in (bundle / "SHA256SUMS").read_text().splitlines()]
    sums = [f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (bundle / "SHA256SUMS").write_text("".join(sums))


def test_a_bundle_holds_what_a_stranger_needs_and_is_found_right(archived):
    output = archived.run("python", "-m", "emorl", "recheck", "results.zip")
    assert "2 runs are named by their configuration, data and code" in output
    assert "verdicts follow from the CSVs and params/claims.yaml" in output
    assert "results.zip: every number was found again" in output
    with zipfile.ZipFile(archived.root / "results.zip") as archive:
        names = set(archive.namelist())
        readme = archive.read("README.md").decode()
    assert {
        "code/params/claims.yaml",
        "code/emorl/commands/main.py",
        f"{REPORT}/table1.csv",
        f"{REPORT}/index.html",
    } <= names
    for ending in ("manifest.json", "metrics.jsonl"):
        assert sum(name.startswith("runs/") and name.endswith(f"/{ending}") for name in names) == 2
    assert not any(name.startswith("runs/") and name.endswith("checkpoint.pt") for name in names)
    assert "python -m emorl recheck" in readme
    assert "these numbers mean nothing" in readme


def test_the_metadata_describe_every_file(bundle):
    crate = ROCrate(bundle)
    assert crate.name == "EfficientMORL, reproduced: results at scale test"
    assert crate.license["name"] == "CC0-1.0"
    assert crate.datePublished
    described = {entity.id: entity for entity in crate.data_entities}
    assert described["code/"]["version"]
    del described["code/"]
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert described.keys() == {n for n in there if not n.startswith("code/")} - {
        "SHA256SUMS",
        "ro-crate-metadata.json",
    }
    for name, entity in described.items():
        content = (bundle / name).read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["contentSize"] == str(len(content))


def test_an_unpacked_bundle_is_right_whatever_lies_beside(bundle):
    (bundle / "code" / "note.txt").write_text("mine")
    assert mismatches(bundle) == []


def test_a_changed_and_a_missing_file_are_named(bundle):
    (bundle / REPORT / "table1.png").write_bytes(b"another picture")
    (bundle / REPORT / "table1.pdf").unlink()
    evaluation = the_evaluation(bundle)
    evaluation.unlink()
    found = mismatches(bundle)
    name = evaluation.relative_to(bundle)
    assert f"{REPORT}/table1.png is not the file that SHA256SUMS has the hash of" in found
    assert f"{REPORT}/table1.pdf is missing" in found
    assert f"{name} is missing" in found
    assert any(sentence.startswith("table1: ") and str(name) in sentence for sentence in found)


def change_a_score(bundle):
    evaluation = the_evaluation(bundle)
    edit_json(evaluation, lambda content: content["kept"]["images"]["fg_ari"].__setitem__(3, 0.987))
    return f"{evaluation.relative_to(bundle)}: summary: fg_ari is "


def change_a_summary(bundle):
    edit_json(the_evaluation(bundle), lambda content: content["controls"]["one_slot"].update(fg_ari=0.5))
    return f"{the_evaluation(bundle).relative_to(bundle)}: controls: one_slot: fg_ari is 0.5, but should be 0.0"


def change_score_and_summary(bundle):
    def change(content):
        content["kept"]["control_images"]["one_slot"]["fg_ari"] = [0.5] * 16
        content["controls"]["one_slot"]["fg_ari"] = 0.5

    edit_json(the_evaluation(bundle), change)
    return "value of fg_ari_one_slot of emorl base on tetrominoes (seed 0) is 0.0, but should be 0.5"


def change_a_number(bundle):
    path = bundle / REPORT / "table1.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[-2] = "0.25"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    return f"{REPORT}/table1.csv, line 2: value of fg_ari of emorl base on tetrominoes (seed 0) is 0.25, but should be "


def change_a_cell(bundle):
    edit_json(bundle / REPORT / "table1.json", lambda record: record["table"]["rows"][0]["cells"][0].update(mean=99.0))
    return f"{REPORT}/table1.json: table: rows: 0: cells: 0: mean is 99.0, but should be "


def change_a_table(bundle):
    path = bundle / REPORT / "table1.md"
    path.write_text(path.read_text().replace("TEST of", "No TEST of"))
    return f"{REPORT}/table1.md does not say what table1.csv says"


def change_a_verdict(bundle):
    path = bundle / REPORT / "claims.csv"
    path.write_text(path.read_text().replace(",undecided,", ",reproduced,", 1).replace(",differs,", ",reproduced,", 1))
    return "is reproduced, but should be "


def change_a_claim(bundle):
    path = bundle / "code" / "params" / "claims.yaml"
    path.write_text(path.read_text().replace("text: ARI of Slot Attention on CLEVR6 (x 100)", "text: another", 1))
    return (
        f"{REPORT}/claims.csv, line 2: text of t1-slot-attention-clevr6 is ARI of Slot Attention on CLEVR6 (x 100), but"
    )


def change_a_configuration(bundle):
    path = next(bundle.glob("runs/*/*/*/seed0/manifest.json"))
    edit_json(path, lambda manifest: manifest["config"]["training"].update(steps=1000))
    return f"{path.relative_to(bundle)}: its configuration is not the one that config_sha256 is of"


def move_a_run(bundle):
    path = next(bundle.glob("runs/*/*/*/seed0/manifest.json"))
    edit_json(path, lambda manifest: manifest.update(seed=5))
    return f"{path.relative_to(bundle)}: what it says belongs to runs/tetrominoes/emorl/base-"


def take_the_values_away(bundle):
    (bundle / "code/params/test.yaml").unlink()
    sums = (bundle / "SHA256SUMS").read_text()
    (bundle / "SHA256SUMS").write_text(re.sub(r".*  code/params/test\.yaml\n", "", sums))
    return "code/params/test.yaml, which made it, is not listed"


def break_a_file(bundle):
    the_evaluation(bundle).write_text('{"summary": 1')
    return f"{the_evaluation(bundle).relative_to(bundle)}: it, or what it comes from, cannot be read"


def show_a_file_from_elsewhere(bundle):
    def change(record):
        record["shows"]["series"][0]["runs"][0]["file"] = "../../secret.json"

    edit_json(bundle / REPORT / "table1.json", change)
    return f"{REPORT}/table1.json shows ../../secret.json, which is not listed"


def break_a_record(bundle):
    edit_json(bundle / REPORT / "table1.json", lambda record: record.pop("inputs"))
    return f"{REPORT}/table1.json cannot be read"


def exchange_an_input(bundle):
    """Other arrays for the pictures, which no number depends on."""
    for path in bundle.glob("runs/*/*/*/seed*/evaluation/decomposition-*.npz"):
        path.write_bytes(b"other arrays")
    return f"{REPORT}/decompositions_tetrominoes.json: it was made from another runs/"


def add_a_table(bundle):
    shutil.copy(bundle / REPORT / "table1.csv", bundle / REPORT / "table4.csv")
    with open(bundle / "SHA256SUMS", "a") as sums:
        sums.write(f"{0:064}  {REPORT}/table4.csv\n")
    return f"{REPORT}/table4.csv is of nothing that has a record in {REPORT}"


@pytest.mark.parametrize("change", [
    change_a_score, change_a_summary, change_score_and_summary, change_a_number, change_a_cell, change_a_table,
    change_a_verdict, change_a_claim, change_a_configuration, move_a_run, take_the_values_away, break_a_file,
    show_a_file_from_elsewhere, break_a_record, exchange_an_input, add_a_table,
])  # fmt: skip
def test_what_is_wrong_is_named_even_if_all_hashes_are_right(bundle, change):
    sentence = change(bundle)
    hash_anew(bundle)
    found = mismatches(bundle)
    assert any(sentence in mismatch for mismatch in found), found


def foreign(name, **attributes):
    info = zipfile.ZipInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(("info", "sentence"), [
    (foreign("../escaped.txt"), "leads out of the folder"),
    (foreign("/escaped.txt"), "leads out of the folder"),
    (foreign("code\\..\\escaped.txt"), "leads out of the folder"),
    (foreign("code/run.sh"), "code/run.sh is not among the files that SHA256SUMS lists"),
    (foreign("README.md"), "there are two files README.md"),
    (foreign("code/link", external_attr=(stat.S_IFLNK | 0o777) << 16), "code/link is a link"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_anything_foreign_is_refused(archived, tmp_path, info, sentence):
    changed = Path(shutil.copy(archived.root / "results.zip", tmp_path))
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr(info, "anything")
    with pytest.raises(UserError, match=sentence):
        list(recheck(changed))
    assert not list(tmp_path.rglob("escaped.txt"))


def with_headers(path, flags=0, method=0):
    """A zip of one file whose headers, the local and the central one, say so."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("SHA256SUMS", "")
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        header = content.index(signature)
        content[header + at : header + at + 4] = struct.pack("<HH", flags, method)
    path.write_bytes(content)
    return path


def test_what_is_no_bundle_is_refused_in_a_sentence(archived, tmp_path):
    cut = tmp_path / "cut.zip"
    cut.write_bytes((archived.root / "results.zip").read_bytes()[:5000])
    for path, sentence in (
        (cut, "is not a zip, or is damaged"),
        (tmp_path, "has no SHA256SUMS"),
        (with_headers(tmp_path / "encrypted.zip", flags=1), "is not a zip, or is damaged"),
        (with_headers(tmp_path / "exotic.zip", method=97), "is not a zip, or is damaged"),
        (tmp_path / "x", "not there"),
    ):
        with pytest.raises(UserError, match=sentence):
            list(recheck(path))


@pytest.mark.drill
def test_results_that_do_not_hold_are_not_bundled(workspace):
    def refused():
        output = workspace.run("python", "-m", "emorl", "archive", "--scale", "test", status=1)
        assert not list(workspace.root.glob("*.zip"))
        return output

    workspace.edit("README.md", lambda text: text + "\n")
    assert "commit them, a bundle holds its code" in refused()
    workspace.run("git", "checkout", "--quiet", "README.md")
    workspace.edit(f"{REPORT}/claims.csv", lambda text: text.replace(",not run,", ",reproduced,", 1))
    assert f"the bundle does not hold what it says: {REPORT}/claims.csv, line 2" in refused()
    workspace.edit(f"{REPORT}/table1.csv", lambda text: text.replace(",0.0,", ",0.1,", 1))
    assert "table1.csv does not hold what its runs' evaluations say" in refused()


def test_weights_are_bundled_on_demand(workspace):
    workspace.run("python", "-m", "emorl", "archive", "--scale", "test", "--checkpoints")
    (path,) = workspace.root.glob("emorl-test-*.zip")
    with zipfile.ZipFile(path) as archive:
        assert sum(name.startswith("runs/") and name.endswith("/checkpoint.pt") for name in archive.namelist()) == 2
    assert mismatches(path) == []
    assert workspace.run("git", "status", "--porcelain") == ""
