"""Reports of results: tables, exports, pages, plots."""
