"""The result file while its run writes it: locked, watched, and kept in memory as well."""
