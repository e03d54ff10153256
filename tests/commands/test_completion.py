"""What the shell completes is what there is; it is found without importing what takes seconds."""

import os
import subprocess
import sys

from emorl.commands import completion
from emorl.data import data_sets
from emorl.models import model_names
from emorl.pipeline import config
from emorl.runtime.files import ROOT


def test_names_are_those_there_are():
    experiments = config.load_experiments()
    assert completion.models("") == model_names()
    assert completion.data_sets("") == list(data_sets())
    assert completion.scales("") == ["beyond", "demo", "paper", "small", "test"]
    assert completion.variants("") == sorted(experiments.variants)
    assert completion.artifacts("") == sorted(experiments.artifacts)
    assert completion.models("slot") == ["slot_attention", "slot_mlp"]


def completed(words):
    """What bash would be offered after `words`, and the heavy modules that this took."""
    code = (
        "import sys, atexit; sys.argv = ['emorl']\n"
        "atexit.register(lambda: print('heavy:', *({'torch', 'numpy', 'h5py'} & set(sys.modules))))\n"
        "from emorl.commands.main import main; main()"
    )
    environment = os.environ | {
        "_EMORL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)
    }  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    *offered, heavy = result.stdout.splitlines()
    assert heavy == "heavy:", heavy
    return offered


def test_the_shell_is_answered():
    assert completed("emorl train --model slot") == ["slot_attention", "slot_mlp"]
    assert completed("emorl plan table") == ["table1", "table2", "table3"]
    assert completed("emorl seg") == ["segment"]
