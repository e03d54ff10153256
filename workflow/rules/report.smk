# Evaluated runs -> tables and figures, one rule each -> verdicts and the page.

for artifact in SHOWN:

    rule:
        name:
            f"draw_{artifact}"
        input:
            absent(*ARTIFACTS[artifact].files),
            lambda wildcards, name=artifact: newer_if(is_stale(name)),
        output:
            files_of(artifact),
            report(
                f"{REPORT}/{artifact}.png",
                caption="../report/artifact.rst",
                category=category_of(artifact),
                labels={"artifact": ARTIFACTS[artifact].title, "shows": ARTIFACTS[artifact].caption},
            ),
        log:
            f"logs/draw/{SCALE}/{artifact}.log",
        conda:
            "../../environment.yml"
        params:
            artifact=artifact,
            caption=ARTIFACTS[artifact].caption,
            scale=SCALE,
            selection=SELECTION,
            digest=ARTIFACTS[artifact].digest,
        shell:
            "workflow/scripts/logged {log} python -m emorl draw {params.artifact} --scale {params.scale}"
            " {params.selection} --expect {params.digest}"


rule benchmark:
    # Figures 10 and 22: timed with nothing else running beside.
    output:
        f"{REPORT}/benchmark-{{digest}}.csv",
    log:
        f"logs/benchmark/{SCALE}-{{digest}}.log",
    conda:
        "../../environment.yml"
    threads: 64  # all that there are, so that nothing else runs beside
    resources:
        gpu=1,
        mem_mb=8000,
    params:
        how=ARTIFACTS["fig10"].benchmark,
        python=python_of,
    shell:
        "workflow/scripts/logged {log} {params.python} -m benchmarks.figure10 --sizes {params.how.sizes}"
        " --batch {params.how.batch} --threads {threads} --repetitions {params.how.repetitions}"
        " --budget-gb {params.how.budget_gb} --out {output}"


rule page:
    # It and the tracking store show whatever is there when a target has been made.
    input:
        lambda wildcards: [f"{REPORT}/{name}.json" for name in asked_for() if is_stale(name)],
        lambda wildcards: newer_if(not page_is_current(SCALE, Path())),
        local(collect("emorl/reporting/page/assets/page.{ending}", ending=["html", "css", "js"])),  # in no object store
    output:
        PAGE,
        collect(f"{REPORT}/{{file}}", file=["claims.csv", "claims.txt", "page.json"]),
    log:
        f"logs/page/{SCALE}.log",
    conda:
        "../../environment.yml"
    params:
        scale=SCALE,
        links=f"logs/page/{SCALE}-links.json",
    shell:
        "workflow/scripts/logged {log} sh -c '"
        "python -m emorl track sync --links {params.links} &&"
        " python -m emorl report --scale {params.scale} --links {params.links} && python -m emorl track report {params.scale}'"
