# EfficientMORL, reproduced: one target per artifact of the paper.
#
#   snakemake --cores all reproduce_table1                         the default scale, demo
#   snakemake --cores all reproduce_all                            every table, figure and verdict
#   snakemake --cores all reproduce_fig7 --config scale=paper      the paper's exact setting
#   snakemake --cores all prepare_data                             the scale's data sets alone
#   ... --config datasets=tetrominoes models=emorl seeds=3         a part of it
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/lock.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/released.smk"


localrules:
    prepare_data,
    page,


for target, names in PLAN.targets.items():

    rule:
        name:
            f"reproduce_{target}"
        default_target: target == "table1"
        input:
            [[*files_of(name), f"{REPORT}/{name}.png"] for name in names],
            PAGE,
        localrule: True


rule prepare_data:
    input:
        absent(*(files.prepared for files in PLAN.data.values())),


onstart:
    note_owner()
    if workflow.is_main_process and not workflow.touch:
        say_how_long()
        from emorl.tracking import watch

        watch.start(Path("logs/track.log"))  # mirrors runs to MLflow, and ends by itself


onsuccess:
    print(closing_words())
