# Raw records -> one prepared file per data set. `update`: a file that is made again by force is there until the new one
# is, which for a download may be never.


localrules:
    fetch,


rule fetch:
    output:
        update("data/raw/{collection}/{records}"),
    log:
        "logs/fetch/{collection}/{records}.log",
    priority: 1  # before any training, or it would wait, with a core idle, for all of them to be free
    conda:
        "../../environment.yml"
    threads: 64  # a replica takes all cores there are
    params:
        scale=SCALE,
        dataset=lambda wildcards, output: next(n for n, files in PLAN.data.items() if output[0].endswith(files.raw)),
    shell:
        "workflow/scripts/logged {log} python -m emorl fetch --scale {params.scale} --dataset {params.dataset}"
        " --expect {output} --processes {threads}"


rule prepare:
    input:
        lambda wildcards: absent(PLAN.data[wildcards.dataset].raw),
    output:
        update("data/prepared/{dataset}-{source}-{digest}.h5"),
    log:
        "logs/prepare/{dataset}-{source}-{digest}.log",
    benchmark:
        "logs/prepare/{dataset}-{source}-{digest}.benchmark.tsv"
    priority: 1
    conda:
        "../../environment.yml"
    threads: 2  # one reads, one decodes
    params:
        scale=SCALE,
    shell:
        "workflow/scripts/logged {log} python -m emorl prepare --scale {params.scale}"
        " --dataset {wildcards.dataset} --expect {output} --threads {threads}"
