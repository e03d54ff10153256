# Evaluated runs -> tables and figures, one rule each -> verdicts and the page. The marker of an older version goes first,
# so that there is one marker at most and it tells the truth.

for artifact in SHOWN:

    rule:
        name:
            f"draw_{artifact}"
        input:
            evaluations_of(artifact),
            [BENCHMARK] if is_timed(artifact) else [],
        output:
            report(
                f"{REPORT}/{artifact}.png",
                caption="../report/artifact.rst",
                category=category_of(artifact),
                labels={"artifact": ARTIFACTS[artifact]["title"], "shows": ARTIFACTS[artifact]["caption"]},
            ),
            f"{REPORT}/{artifact}.pdf",
            outputs_of(artifact),
            touch(MARKERS[artifact]),
        log:
            f"logs/draw/{SCALE}/{artifact}.log",
        conda:
            "../../environment.yml"
        params:
            artifact=artifact,
            caption=ARTIFACTS[artifact]["caption"],
            scale=SCALE,
            markers=f"{REPORT}/.{artifact}-*",
            benchmark=f"--benchmark {BENCHMARK}" if is_timed(artifact) else "",
            plan=PLAN_FILE,
        shell:
            "rm -f {params.markers} && python -m emorl draw {params.artifact} --plan {params.plan}"
            " {params.benchmark} > {log} 2>&1"


rule benchmark:
    # Figures 10 and 22: timed with nothing else running beside.
    input:
        "benchmarks/figure10.py",
        "benchmarks/harness.py",
    output:
        BENCHMARK,
    log:
        f"logs/benchmark/{SCALE}.log",
    conda:
        "../../environment.yml"
    threads: 64  # all that there are, so that nothing else runs beside
    resources:
        gpu=1,
    params:
        sizes=PLAN["benchmark"]["sizes"],
        batch=PLAN["benchmark"]["batch"],
        repetitions=PLAN["benchmark"]["repetitions"],
        budget=PLAN["benchmark"]["budget_gb"],
    shell:
        "python -m benchmarks.figure10 --sizes {params.sizes} --batch {params.batch} --threads {threads}"
        " --repetitions {params.repetitions} --budget-gb {params.budget} --out {output} > {log} 2>&1"


rule page:
    # The page and the tracking store show whatever is there when a target has been made.
    input:
        lambda wildcards: [MARKERS[name] for name in TARGETS[wildcards.target]],
        local(collect("emorl/reporting/assets/page.{ending}", ending=["html", "css", "js"])),  # in no object store
    output:
        touch(f"{REPORT}/.page-{{target}}-{{digest}}"),
    log:
        f"logs/page/{SCALE}-{{target}}-{{digest}}.log",
    conda:
        "../../environment.yml"
    params:
        plan=PLAN_FILE,
        markers=lambda wildcards: f"{REPORT}/.page-{wildcards.target}-*",
    shell:
        "rm -f {params.markers} && (python -m emorl report --plan {params.plan}"
        " && python -m emorl track sync --plan {params.plan}) 2>&1 | tee {log}"
