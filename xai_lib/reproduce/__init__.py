"""Runs the notebooks headlessly and turns their results into a ledger and a gallery: `make figures`."""
