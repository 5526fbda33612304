"""Shared helpers that no paper describes: the machine, records of results, atomic files, names."""
