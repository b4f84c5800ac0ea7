"""From inputs to rows: request, plan, run, collect. Knows a model only as a protocol."""
