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
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/report.smk"


localrules:
    prepare_data,
    page,


for target in TARGETS:

    rule:
        name:
            f"reproduce_{target}"
        default_target: target == "table1"
        input:
            target_files(target),
        localrule: True


rule prepare_data:
    input:
        [files["prepared"] for files in DATA.values()],


onsuccess:
    print(closing_words())
