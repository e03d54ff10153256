# What is to be made: planned anew at each start from params/ and --config, and kept in memory. Looking writes nothing.
#
# The name of a raw or prepared file, a run or an evaluation says what it holds, and the record of a table, a figure or
# the page says what it was made from. These alone decide: rules ask for what is not there (`absent`), and what is there
# for or from something else gets an input that is newer (`newer_if`). So time stamps, which a pull from storage leaves
# in any order, have no say, and nothing is fetched, prepared or trained twice, not even with --forceall.
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

sys.path.insert(0, workflow.basedir)  # this checkout's package, whatever is installed

from emorl.pipeline.plan import make_plan, selection_options
from emorl.reporting.current import page_is_current, why_stale
from emorl.reporting.figures import check_drawings
from emorl.reporting.sharing.recorded import RECORDED, recorded_scales
from emorl.runtime.errors import UserError
from emorl.runtime.gpus import devices

KNOWN_OPTIONS = ("scale", "datasets", "models", "seeds", "runs_per_gpu")

try:
    for option in config:
        if option not in KNOWN_OPTIONS:
            raise UserError(f"--config {option}: not a known option; known are {', '.join(KNOWN_OPTIONS)}")
    if Path.cwd() != Path(workflow.basedir):
        raise UserError(f"results lie beside the code that makes them: start Snakemake in {workflow.basedir}")
    SCALE = config.get("scale", "demo")
    PLAN = make_plan(SCALE, config)
    for name in [argument.removeprefix("reproduce_") for argument in sys.argv if argument.startswith("reproduce_")]:
        if name not in (*PLAN.targets, "released"):
            known = ", ".join(f"reproduce_{target}" for target in (*PLAN.targets, "released"))
            raise UserError(f"there is no target reproduce_{name}; there are {known}, and prepare_data")
        if name in PLAN.artifacts and name not in PLAN.targets["all"]:
            elsewhere = f"; scale {PLAN.artifacts[name].left_to} may have them" if PLAN.artifacts[name].left_to else ""
            raise UserError(f"params/{SCALE}.yaml trains none of the chosen runs that {name} shows{elsewhere}")
    check_drawings({name: artifact.draw for name, artifact in PLAN.artifacts.items()})
    SELECTION = selection_options(config)
    GPUS = devices()
    RUNS_PER_GPU = config.get("runs_per_gpu", 1)
    if not isinstance(RUNS_PER_GPU, int) or RUNS_PER_GPU < 1:
        raise UserError(f"--config runs_per_gpu={RUNS_PER_GPU}: a whole number from 1 is needed")
    for sentence in PLAN.renamed if workflow.is_main_process else []:
        logger.warning(f"warning: {sentence}")
except UserError as error:
    sys.exit(f"error: {error}")  # a WorkflowError would wrap the sentence in file names and line numbers

REPORT = f"reports/{SCALE}"
PAGE = f"{REPORT}/index.html"
ARTIFACTS = PLAN.artifacts
SHOWN = PLAN.targets["all"]
RUNS = {run.folder: run for run in PLAN.runs}


def absent(*paths):
    """Those that are not there."""
    return [path for path in paths if not Path(path).exists()]


@cache
def is_stale(name):
    """Whether an artifact has to be made; if it is there for or from something else, a line says so."""
    why = why_stale(name, ARTIFACTS[name], Path())
    if why and Path(f"{REPORT}/{name}.json").exists() and workflow.is_main_process:
        logger.info(f"{ARTIFACTS[name].title} is to be made again: {why}")
    return why is not None


@cache
def just_now():
    return NamedTemporaryFile(prefix="emorl-")  # outside of the project, and gone with this process


def newer_if(stale):
    """An input newer than all that is there, for what is to be made again."""
    return [local(just_now().name)] if stale else []


# ---- What each step takes and makes ----------------------------------------------------------------------------------


def run_of(wildcards):
    """The folder of a run."""
    return "runs/{0.dataset}/{0.model}/{0.variant}-{0.digest}/seed{0.seed}".format(wildcards)


def evaluated_on(wildcards):
    """The data set whose held-out images an evaluation takes."""
    folder = run_of(wildcards)
    file = "{0.evaluation}-{0.split}-{0.how}.json".format(wildcards)
    return RUNS[folder].evaluations[f"{folder}/evaluation/{file}"]


def files_of(name):
    """An artifact but for its picture, its record first."""
    endings = ["md", "txt", "metrics.json"] if ARTIFACTS[name].draw == "table" else []
    return [f"{REPORT}/{name}.{ending}" for ending in ("json", "csv", "pdf", *endings)]


def asked_for():
    """The artifacts that the page waits for: those of the targets that Snakemake is called with."""
    targets = workflow.dag_settings.targets or ["reproduce_table1"]
    return [name for target in targets for name in PLAN.targets.get(target.removeprefix("reproduce_"), [])]


def category_of(name):
    """Where Snakemake's own report lists an artifact."""
    return {"table": "Tables", "fig": "Figures"}.get(name.rstrip("0123456789"), "Beyond the paper")


# ---- Machines -------------------------------------------------------------------------------------------------------

if workflow.nodes is None and "gpu" not in workflow.global_resources and GPUS:
    workflow.register_resource("gpu", len(GPUS) * RUNS_PER_GPU)  # jobs share them; without one, the machine's cores


def python_of(wildcards, resources):
    """Python as a GPU job starts it: on GPUs of its own, one process each (`--set-resources train:gpu=8`), or on its
    part of one (`--config runs_per_gpu=8`), and warned before a time limit where the profile says so."""
    gres = resources.get("gres", "")  # "gpu:a100:2", on clusters that will have it so
    gpus = int(gres.rpartition(":")[2]) if gres else resources.gpu
    processes = f" -m torch.distributed.run --standalone --nproc-per-node {gpus}" if gpus > 1 else ""
    limited = "requeue_before" in resources.keys()
    requeue = f"python workflow/scripts/requeue.py {resources.requeue_before} " if limited else ""
    lent = gpus if RUNS_PER_GPU == 1 else f"{gpus}/{RUNS_PER_GPU}"
    return f"{requeue}python -m emorl.runtime.gpus {lent} python{processes}"


asked = workflow.resource_settings.overwrite_resources.get("train", {})
if (
    workflow.is_main_process
    and "slurm_partition" in (workflow.resource_settings.default_resources or {})
    and asked
    and "requeue_before" not in asked
):
    logger.warning(
        "warning: --set-resources train:... replaces all that the profile says of train: without its runtime and"
        " requeue_before, a training ends at the default time limit; say them in the profile (docs/clusters.md)"
    )


# ---- Words ----------------------------------------------------------------------------------------------------------

if workflow.is_main_process:
    trained = len(RUNS) - len(absent(*(f"{folder}/manifest.json" for folder in RUNS)))
    logger.info(
        f"Scale {SCALE}: {trained} of {len(RUNS)} runs are trained; `python -m emorl plan all --scale {SCALE}` tells"
        " the hours and disk that the others take"
    )


def say_how_long():
    """An estimate for the trainings of what is asked for, by a process beside the workflow: to count takes a while, more
    than all trainings of a test."""
    at_once = len(GPUS) * RUNS_PER_GPU or workflow.cores
    for target in workflow.dag_settings.targets or ["reproduce_table1"]:
        name = target.removeprefix("reproduce_")
        if workflow.nodes is None and PLAN.purpose != "test" and name in PLAN.targets:
            options = ["--scale", SCALE, *SELECTION.split(), "--at-once", str(at_once)]
            subprocess.Popen([sys.executable, "-m", "emorl", "plan", name, *options], cwd=workflow.basedir)


def closing_words():
    """The table, if it is that of this selection, and where the report is, and those that are recorded."""
    table, stale = Path(f"{REPORT}/table1.txt"), why_stale("table1", ARTIFACTS["table1"], Path())
    texts = [table.read_text()] if table.exists() and not stale else []
    texts += [f"Report: {PAGE}"] if Path(PAGE).exists() else []
    return "\n".join(texts + [f"Recorded at scale {s}: {RECORDED}/{s}/index.html" for s in recorded_scales(Path())])


wildcard_constraints:
    dataset="[a-z0-9_]+",
    model="[a-z0-9_]+",
    variant="[a-z0-9_]+",
    digest="[0-9a-f]+",
    seed="[0-9]+",
    split="test|validation",
    collection="[a-z0-9_]+",
    records=r"[\w.-]+\.(tfrecords|json)",
    source="published|processed|replica|folder",
    how="[0-9a-f]+",
    evaluation="[a-z]+",
