"""The job: a DAG of one or more tasks. A plain job has one, named `main`."""
