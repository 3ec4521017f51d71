"""What a result file must not say: secrets in no file, and names of machines, people and places in no shared copy."""
