"""What several parts need and no paper describes: the machine, records of results, whole files, names."""
