"""The report of a retrieval evaluation: results.json, results.md, and the tables they share."""
