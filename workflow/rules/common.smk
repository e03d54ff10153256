# What is to be made: read once from params/ and --config, and written down as the report's plan.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)  # this checkout's package, whatever is installed

from emorl import config as settings
from emorl import plan as plans
from emorl.errors import UserError
from emorl.files import sha256_of_json
from emorl.gpus import devices

KNOWN_OPTIONS = ("scale", "datasets", "models", "seeds")

try:
    for option in config:
        if option not in KNOWN_OPTIONS:
            raise UserError(f"--config {option}: not a known option; known are {', '.join(KNOWN_OPTIONS)}")
    SCALE = config.get("scale", "demo")
    PLAN = plans.make_plan(SCALE, config)
    for warning in settings.warnings(settings.load_scale(SCALE), SCALE):
        logger.warning(f"warning: {warning}")
except UserError as error:
    sys.exit(f"error: {error}")  # a WorkflowError would wrap the sentence in file names and line numbers

PLAN_FILE = str(plans.write_plan(PLAN))
REPORT = f"reports/{SCALE}"
RUNS = {run["folder"]: run for run in PLAN["runs"]}
DATA = PLAN["data"]
ARTIFACTS = PLAN["artifacts"]
TARGETS = PLAN["targets"]
SHOWN = TARGETS["all"]
# Markers name what a result was made for: made for something else, it is made again, whatever time stamps say.
MARKERS = {name: f"{REPORT}/.{name}-{artifact['digest']}" for name, artifact in ARTIFACTS.items()}
BENCHMARK = f"{REPORT}/benchmark.csv"

if workflow.nodes is None and "gpu" not in workflow.global_resources and devices():
    workflow.register_resource("gpu", len(devices()))  # jobs on this machine share its GPUs; without one, its cores

if workflow.is_main_process:
    trained = sum(Path(folder, "manifest.json").exists() for folder in RUNS)
    logger.info(
        f"Scale {SCALE}: {trained} of {len(RUNS)} runs are trained; `python -m emorl plan all --scale {SCALE}` tells"
        " the hours and disk that the others take"
    )


def is_timed(name):
    return ARTIFACTS[name]["draw"].startswith("timings")


def category_of(name):
    """Where Snakemake's own report lists an artifact."""
    return {"table": "Tables", "fig": "Figures"}.get(name.rstrip("0123456789"), "Beyond the paper")


def evaluations_of(name):
    """The files that an artifact's measures are read from."""
    return [run["file"] for series in ARTIFACTS[name]["series"] for run in series["runs"]]


def there_already(names):
    """What artifacts need and is there. Their target names it, or else Snakemake (9.27) plans nothing behind a step that
    is made again, by force or because it was cut short, if what it makes is there and `ancient` to the steps that use it.
    """
    folders = {run["folder"] for name in names for series in ARTIFACTS[name]["series"] for run in series["runs"]}
    evaluated = [dataset for folder in folders for dataset in RUNS[folder]["evaluations"].values()]
    datasets = {RUNS[folder]["dataset"] for folder in folders} | set(evaluated)
    files = [path for dataset in datasets for path in DATA[dataset].values()]
    return [path for path in files + [f"{folder}/manifest.json" for folder in folders] if Path(path).exists()]


def evaluated_on(wildcards):
    """The data set whose held-out images an evaluation takes."""
    folder = "runs/{0.dataset}/{0.model}/{0.variant}-{0.digest}/seed{0.seed}".format(wildcards)
    file = "{0.evaluation}-{0.split}-{0.how}.json".format(wildcards)
    return RUNS[folder]["evaluations"][f"{folder}/evaluation/{file}"]


def outputs_of(name):
    endings = ["csv", "md", "txt", "json", "metrics.json"] if ARTIFACTS[name]["draw"] == "table" else ["csv"]
    return [f"{REPORT}/{name}.{ending}" for ending in endings]


def target_files(target):
    """All that a target asks for. Evaluations are named as well, so that a missing run is noticed even beside an old
    table."""
    names = TARGETS[target]
    digest = sha256_of_json([PLAN["page"], *(ARTIFACTS[name]["digest"] for name in names)])[:10]
    evaluations = [path for name in names for path in evaluations_of(name)]
    made = [path for name in names for path in [MARKERS[name], f"{REPORT}/{name}.png", *outputs_of(name)]]
    return [*evaluations, *there_already(names), *made, f"{REPORT}/.page-{target}-{digest}"]


def closing_words():
    """The table, if this run was about it, and where the report is."""
    shown = Path(REPORT) / "table1.txt"
    texts = [shown.read_text()] if shown.exists() and Path(MARKERS["table1"]).exists() else []
    page = Path(REPORT) / "index.html"
    return "\n".join(texts + [f"Report: {page}"] if page.exists() else texts)


def scale_of(wildcards, output):
    """SCALE as a parameter that triggers nothing, being a function of the output: scales may share data files."""
    return SCALE


def python_of(wildcards, output, resources):
    """Python as a GPU job starts it: on GPUs of its own, one process each (`--set-resources train:gpu=8`), and warned
    before a time limit where the profile says so; a parameter that triggers nothing, as above."""
    gres = resources.get("gres", "")  # "gpu:a100:2", on clusters that will have it so
    gpus = int(gres.rpartition(":")[2]) if gres else resources.gpu
    processes = f" -m torch.distributed.run --standalone --nproc-per-node {gpus}" if gpus > 1 else ""
    limited = "requeue_before" in resources.keys()
    requeue = f"python workflow/scripts/requeue.py {resources.requeue_before} " if limited else ""
    return f"{requeue}python -m emorl.gpus {gpus} python{processes}"


wildcard_constraints:
    dataset="[a-z0-9_]+",
    model="[a-z0-9_]+",
    variant="[a-z0-9_]+",
    digest="[0-9a-f]+",
    seed="[0-9]+",
    split="test|validation",
    collection="[a-z0-9_]+",
    records=r"[\w.-]+\.(tfrecords|json)",
    source="published|processed|replica",
    how="[0-9a-f]+",
    evaluation="[a-z]+",
