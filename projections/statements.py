"""The statements that write the tables of the read models, each made from a table's columns."""

from __future__ import annotations

from jobledger.projections.columns import Table


def bits(table: Table) -> dict[str, int]:
    """Which bit of a change's mask stands for which column."""
    return {column: 1 << place for place, column in enumerate(table.changing)}


def _given(table: Table, json_columns: list[str]) -> str:
    types = table.types
    listed = ", ".join(f"{column} {types[column]}" for column in json_columns)
    return f"json_to_recordset(%s::json) AS s({listed}, mask bigint)"


def _matches(table: Table) -> str:
    return " AND ".join(f"t.{column} = s.{column}" for column in table.key)


def copy_sql(table: Table) -> str:
    """COPY of whole new rows, as text."""
    return f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN"


def update_sql(table: Table) -> str:
    """Update from a JSON list of changes; each has the key columns, `mask`, and what it changes."""
    sets = [
        f"{column} = CASE WHEN s.mask & {bit} <> 0 THEN s.{column} ELSE t.{column} END"
        for column, bit in bits(table).items()
    ]
    sets += [f"{column} = t.{column} + coalesce(s.{column}, 0)" for column in table.counters]
    given = _given(table, [*table.key, *table.changing, *table.counters])
    still = "".join(f" AND t.status <> '{status}'" for status in table.final)
    return f"UPDATE {table.name} t SET {', '.join(sets)} FROM {given} WHERE {_matches(table)}{still}"


def insert_missing_sql(table: Table) -> str:
    """Insert those of a JSON list of whole rows that don't exist."""
    types = table.types
    listed = ", ".join(f"{column} {types[column]}" for column in table.columns)
    names = ", ".join(table.columns)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM json_to_recordset(%s::json) AS s({listed})"
        f" ON CONFLICT ({', '.join(table.key)}) DO NOTHING"
    )


def count_sql(table: Table) -> str:
    """Add a JSON list of counts to rows that are made where they don't exist; what one doesn't name is 0."""
    names = ", ".join(table.columns)
    types = table.types
    given = ", ".join(f"{column} {types[column]}" for column in table.columns)
    counted = ", ".join(f"coalesce(s.{column}, 0)" for column in table.counters)
    sets = ", ".join(f"{column} = t.{column} + excluded.{column}" for column in table.counters)
    return (
        f"INSERT INTO {table.name} AS t ({names}) SELECT {', '.join(table.key)}, {counted}"
        f" FROM json_to_recordset(%s::json) AS s({given}) ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {sets}"
    )


def delete_sql(table: Table) -> str:
    """Delete by a JSON list of keys."""
    return f"DELETE FROM {table.name} t USING {_given(table, list(table.key))} WHERE {_matches(table)}"
