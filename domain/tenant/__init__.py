"""The tenant: whose jobs and queues they are."""
