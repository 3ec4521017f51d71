"""Privacy of a result file: secrets are in no file, names of machines, people and places in no shared copy."""
