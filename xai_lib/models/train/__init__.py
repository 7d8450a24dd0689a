"""How the networks in data/ were trained: a module per data set, with `RECIPES` and `make(names)`."""
