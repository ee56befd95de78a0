"""What the client asks the API: `operations.graphql`, and what scripts/sync-operations writes from it and the schema.

`documents` has a function for each operation, `inputs` and `outputs` the JSON that goes in and comes back, `enums` the
names in it.
"""
