"""MLflow as a mirror of the run folders. They are the truth: a lost store is built again from them.

A process of its own mirrors a run, so training neither imports MLflow nor waits for it. Whatever fails, the
mirror forgets what it knew and asks the store anew, at its next look at the folder, how far it has come.

  follow.py    mirrors a run while it is trained         layout.py    experiments, parents and seeds, their names
  sync.py      mirrors folders afterwards, and reports   summary.py   mean and spread over seeds, on the parent
  mirror.py    one folder and its MLflow run             registry.py  checkpoints behind the cells of tables
  usage.py     what a training uses of the machine       links.py     addresses in the pages
  store.py     opens or creates the store                waiting.py, locks.py, messages.py
"""

import os

# Set before MLflow is imported: it calls home unless told not to, logs at length what we say in a line, and
# retries a lost server for minutes, where our next look is the retry. The pages need no workers for jobs.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
