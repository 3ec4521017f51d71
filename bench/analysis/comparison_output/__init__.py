"""Output of comparisons: the answer first on a screen, Markdown for a pull request, JSON, CSV, JUnit XML, GitHub."""
