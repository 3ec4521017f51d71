"""Facts with sources that ship with the product; read with importlib.resources, never executed."""
