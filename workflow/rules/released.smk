# The authors' published checkpoints, evaluated on published data beside the numbers of their README.
RELEASED = ("tetrominoes", "clevr6")


rule released:
    input:
        lambda wildcards: absent(*(PLAN.data[name].prepared for name in RELEASED if name in PLAN.data)),
    output:
        f"{REPORT}/released.csv",
        f"{REPORT}/released.md",
    log:
        f"logs/released/{SCALE}.log",
    conda:
        "../../environment.yml"
    resources:
        gpu=1,
    params:
        scale=SCALE,
        python=python_of,
    shell:
        "workflow/scripts/logged {log} {params.python} -m emorl released --scale {params.scale}"


rule reproduce_released:
    input:
        rules.released.output,
    localrule: True
