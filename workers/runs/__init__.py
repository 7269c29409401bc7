"""A row from claim to result: jobs and inspections, held by a lease."""
