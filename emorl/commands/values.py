"""Verbs for the values in params/: check, schema."""

from typing import Annotated

import typer

from emorl.commands.options import Scale
from emorl.runtime.files import ROOT


def check(scale: Scale) -> None:
    """Check a scale's values, warn of surprising ones."""
    from emorl.pipeline import config
    from emorl.pipeline.runs import check_every_run
    from emorl.reporting.claims import check_named
    from emorl.reporting.figures import check_drawings

    settings = config.load_scale(scale)
    check_every_run(settings)
    check_drawings({name: artifact.draw for name, artifact in config.load_experiments().artifacts.items()})
    check_named(settings)
    for warning in config.warnings(settings):
        print(f"warning: {warning}")
    print(f"params/{scale}.yaml and params/experiments.yaml are valid")


def numbers(
    release: Annotated[bool, typer.Option("--release", help="Let today's numbers be the released ones.")] = False,
) -> None:
    """Has any number changed that the code computes?

    Probes of everything that any scale needs, beside the released ones; exit status 1 if one is another. What was
    measured once is not measured again.
    """
    from emorl.pipeline import identity
    from emorl.pipeline.release import changes, every_probe
    from emorl.runtime.progress import progress

    probes = every_probe()
    found = changes(progress(probes, "probe", "probes"))
    print("\n".join(found) or f"{len(probes)} probes: every number is the released one")
    if release:
        identity.release(probes)
    elif found:
        raise typer.Exit(1)


def schema() -> None:
    """Write workflow/schemas/ from the settings classes."""
    from emorl.pipeline import config
    from emorl.runtime.files import write_text

    for name, text in config.schemas().items():
        write_text(ROOT / "workflow" / "schemas" / name, text)
