"""Reports that people look at: one self-contained page, Markdown with its plots, or a folder of plots."""
