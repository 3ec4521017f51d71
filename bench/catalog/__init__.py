"""Facts with sources, as data files: accelerators, models, prices, constants; and their look-up."""
