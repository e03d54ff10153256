# What is to be made: read once from params/ and --config, and written down as the report's plan.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)  # this checkout's package, whatever is installed

from emorl import config as settings
from emorl import plan as plans
from emorl.errors import UserError

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
RUNS = PLAN["runs"]
EVALUATIONS = [run["evaluation"] for run in RUNS]
DATA = PLAN["data"]
DATA_FILES = [path for files in DATA.values() for path in files.values()]
MANIFESTS = [f"{run['folder']}/manifest.json" for run in RUNS]
# What is there already. The target names it, or else Snakemake (9.27) plans nothing behind a step that is made again,
# by force or because it was cut short, if what it makes is there and `ancient` to the steps that use it.
DONE = [path for path in DATA_FILES + MANIFESTS if Path(path).exists()]
# Markers that name the plan a result was made for: made for another one, it is made again, whatever time stamps say.
TABLE1_MADE = f"{REPORT}/.table1-{plans.digest(PLAN)}"
DECOMPOSITIONS_MADE = f"{REPORT}/.decompositions-{plans.digest(PLAN)}"
TABLE1 = [f"{REPORT}/table1.{ending}" for ending in ("csv", "md", "html", "png", "json", "txt")] + [TABLE1_MADE]
PICTURES = [
    f"{REPORT}/decompositions-{name}.png" for name in dict.fromkeys(cell["dataset"] for cell in PLAN["table1"]["cells"])
]
DECOMPOSITIONS = [*PICTURES, DECOMPOSITIONS_MADE]


def scale_of(wildcards, output):
    """SCALE as a parameter that triggers nothing, being a function of the output: scales may share data files."""
    return SCALE


def python_of(wildcards, output, resources):
    """One process per GPU of the job (`--set-resources train:gpu=8`); a parameter that triggers nothing, as above."""
    if resources.gpu <= 1:
        return "python"
    return f"python -m torch.distributed.run --standalone --nproc-per-node {resources.gpu}"


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
