# Raw records -> one prepared file per data set. Paths hold a digest of settings and code, so their names say what
# they contain; time stamps, which a pull from storage sets anew, say nothing, and inputs are `ancient`.


localrules:
    fetch,


rule fetch:
    output:
        "data/raw/{collection}/{records}",
    log:
        "logs/fetch/{collection}/{records}.log",
    priority: 1  # before any training, or it would wait, with a core idle, for all of them to be free
    conda:
        "../../environment.yml"
    threads: 64  # a replica takes all cores there are
    params:
        scale=scale_of,
        dataset=lambda wildcards, output: next(n for n in DATA if output[0].endswith(DATA[n]["raw"])),
    shell:
        "python -m emorl fetch --scale {params.scale} --dataset {params.dataset} --expect {output}"
        " --processes {threads} 2>&1 | tee {log}"


rule prepare:
    input:
        ancient(lookup(dpath="{dataset}/raw", within=DATA)),
    output:
        "data/prepared/{dataset}-{source}-{digest}.h5",
    log:
        "logs/prepare/{dataset}-{source}-{digest}.log",
    benchmark:
        "logs/prepare/{dataset}-{source}-{digest}.benchmark.tsv"
    priority: 1
    conda:
        "../../environment.yml"
    threads: 2  # one reads, one decodes
    params:
        scale=scale_of,
    shell:
        "python -m emorl prepare --scale {params.scale} --dataset {wildcards.dataset} --expect {output}"
        " --threads {threads} 2>&1 | tee {log}"
