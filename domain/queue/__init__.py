"""The queue: which waiting task goes to which worker slot."""
