"""What keeps the workflow and its generated files in order."""

import zipfile


def test_lint(clone):
    clone.run("snakemake", "--lint")


def test_format(clone):
    clone.run("snakefmt", "--check", "Snakefile", "workflow")


def test_generated_files_are_up_to_date(clone):
    """`make lock` writes environment.yml, `emorl schema` the schemas: they write what is there."""
    clone.run("python", "workflow/scripts/environment.py")
    clone.run("python", "-m", "emorl", "schema")
    assert clone.run("git", "status", "--porcelain") == ""


def test_the_report_holds_table_and_figure(workspace):
    workspace.run(
        "snakemake", "--report", "report.zip", "--config", "scale=test", "models=emorl", "datasets=tetrominoes"
    )
    with zipfile.ZipFile(workspace.root / "report.zip") as report:
        names = {name.rpartition("/")[2] for name in report.namelist()}
    assert {"report.html", "table1.png", "decompositions_tetrominoes.png"} <= names
