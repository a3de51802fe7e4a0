"""Facts for eyes: tables, a live view, pictures, `results.tsv`."""
