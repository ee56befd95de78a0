"""The types of the GraphQL schema, code first."""
