"""The contract on the wire: topics, records, CloudEvents mapping, worker protocol, exported schema files."""
