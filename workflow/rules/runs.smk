# Prepared data -> trained run -> per-image scores. Checkpoint and metrics live in the run's folder undeclared, since
# Snakemake would delete declared outputs on failure.


rule train:
    input:
        lambda wildcards: absent(PLAN.data[wildcards.dataset].prepared),
    output:
        "runs/{dataset}/{model}/{variant}-{digest}/seed{seed}/manifest.json",
    log:
        "logs/train/{dataset}/{model}/{variant}-{digest}/seed{seed}.log",
    benchmark:
        "logs/train/{dataset}/{model}/{variant}-{digest}/seed{seed}.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,  # EfficientMORL and IODINE on CLEVR6 take 5 and 6 GB on a CPU
    params:
        scale=SCALE,
        folder=subpath(output[0], parent=True),
        python=python_of,
    shell:
        # Told to end, the training saves first. One that diverged leaves a manifest that says so: the sweep goes on, and
        # the table counts it.
        "trap : TERM;"
        " workflow/scripts/logged {log} {params.python} -m emorl train --scale {params.scale}"
        " --dataset {wildcards.dataset} --model {wildcards.model} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --expect {params.folder} --threads {threads} || [ -e {output} ]"


rule evaluate:
    input:
        lambda wildcards: absent(PLAN.data[evaluated_on(wildcards)].prepared),
        lambda wildcards: absent(f"{run_of(wildcards)}/manifest.json"),
    output:
        "runs/{dataset}/{model}/{variant}-{digest}/seed{seed}/evaluation/{evaluation}-{split}-{how}.json",
    log:
        "logs/evaluate/{dataset}/{model}/{variant}-{digest}/seed{seed}/{evaluation}-{split}-{how}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=lambda wildcards: 0 if wildcards.evaluation == "disentanglement" else 1,  # a few images, and scikit-learn
        mem_mb=8000,
    params:
        scale=SCALE,
        python=python_of,
    shell:
        "workflow/scripts/logged {log} {params.python} -m emorl evaluate --scale {params.scale}"
        " --dataset {wildcards.dataset} --model {wildcards.model} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --what {wildcards.evaluation} --split {wildcards.split} --expect {output} --threads {threads}"
