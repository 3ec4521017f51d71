"""Memory of NUMA nodes: where pages are put, and where they are."""
