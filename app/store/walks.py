"""Finds the distinct values of a column by skipping through an index, without reading each row."""


def distinct(column: str, rows: str, above: str | None = None, limit: int | None = None) -> str:
    """Return a SELECT of the distinct values of a column, in ascending order.

    Args:
        column: The column.
        rows: The table and the condition of the rows, which have an index that leads to the column.
        above: An SQL expression: only values above it are returned.
        limit: The largest number of values.
    """
    first = rows if above is None else f"{rows} AND {column} > {above}"
    bound = "" if limit is None else f" LIMIT {limit}"
    return f"""
        WITH RECURSIVE walk AS (
            (SELECT {column} FROM {first} ORDER BY {column} LIMIT 1)
            UNION ALL
            SELECT (
                SELECT {column} FROM {rows} AND {column} > walk.{column} ORDER BY {column} LIMIT 1
            ) FROM walk WHERE walk.{column} IS NOT NULL
        )
        SELECT {column} FROM walk WHERE {column} IS NOT NULL{bound}
    """  # noqa: S608 (callers name columns and tables)
