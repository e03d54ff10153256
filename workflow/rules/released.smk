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
        "{params.python} -m emorl released --scale {params.scale} 2>&1 | tee {log}"


rule reproduce_released:
    input:
        rules.released.output,
    localrule: True
