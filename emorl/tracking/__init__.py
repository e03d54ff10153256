"""MLflow as a mirror of the run folders. They are the truth: a lost store is built again from them.

Training neither imports MLflow nor waits for it: one process, which the workflow starts, mirrors all runs that change,
and what it misses is brought in afterwards. How far a run is mirrored the store is asked each time, so a mirror can be
killed, or another one come between, at any moment.

  watch.py     mirrors what changes            layout.py    experiments, parents and seeds, their names and pages
  sync.py      one pass over run folders       summary.py   mean and spread over seeds, on the parent
  mirror.py    one folder and its MLflow run   registry.py  checkpoints behind the cells of tables
  store.py     opens or creates the store     troubles.py  what could not be mirrored
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
