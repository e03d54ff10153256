# Evaluated runs -> tables and figures. The plan is an input: it changes when the selection or the code does. The
# marker of an older plan goes first, so that there is one marker at most and it tells the truth.


rule table1:
    input:
        plan=PLAN_FILE,
        evaluations=EVALUATIONS,
    output:
        report(
            multiext(f"{REPORT}/table1", ".html", ".png"),
            caption="../report/table1.rst",
            category="Table 1",
            labels={"scale": SCALE},
        ),
        multiext(f"{REPORT}/table1", ".csv", ".md", ".json", ".txt"),
        f"{REPORT}/metrics.json",
        touch(TABLE1_MADE),
    log:
        f"logs/table1/{SCALE}.log",
    conda:
        "../../environment.yml"
    params:
        markers=f"{REPORT}/.table1-*",
    shell:
        "rm -f {params.markers} && python -m emorl table1 --plan {input.plan} > {log} 2>&1"


rule decompositions:
    input:
        plan=PLAN_FILE,
        evaluations=EVALUATIONS,
    output:
        report(
            PICTURES,
            caption="../report/decompositions.rst",
            category="Decompositions",
            labels={"scale": SCALE},
        ),
        touch(DECOMPOSITIONS_MADE),
    log:
        f"logs/decompositions/{SCALE}.log",
    conda:
        "../../environment.yml"
    params:
        markers=f"{REPORT}/.decompositions-*",
    shell:
        "rm -f {params.markers} && python -m emorl decompositions --plan {input.plan} > {log} 2>&1"


rule track:
    # Runs are mirrored live while they train; this adds scores, tables and figures, and whatever a store missed.
    input:
        plan=PLAN_FILE,
        table=TABLE1,
        figure=DECOMPOSITIONS,
    output:
        touch(f"{REPORT}/.tracked"),
    log:
        f"logs/track/{SCALE}.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m emorl track sync --plan {input.plan} 2>&1 | tee {log}"
