# Raw records -> one prepared file per data set. Paths hold a digest of settings and code, so their names say what
# they contain; time stamps, which a pull from storage sets anew, say nothing, and inputs are `ancient`.


localrules:
    fetch,


rule fetch:
    output:
        "data/raw/{dataset}/{records}.tfrecords",
    log:
        "logs/fetch/{dataset}/{records}.log",
    conda:
        "../../environment.yml"
    params:
        scale=scale_of,
    shell:
        "python -m emorl fetch --scale {params.scale} --dataset {wildcards.dataset} --expect {output}"
        " 2>&1 | tee {log}"


rule prepare:
    input:
        ancient(lookup(dpath="{dataset}/raw", within=DATA)),
    output:
        "data/prepared/{dataset}-{source}-{digest}.h5",
    log:
        "logs/prepare/{dataset}-{source}-{digest}.log",
    benchmark:
        "logs/prepare/{dataset}-{source}-{digest}.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        scale=scale_of,
    shell:
        "python -m emorl prepare --scale {params.scale} --dataset {wildcards.dataset} --expect {output}"
        " 2>&1 | tee {log}"
