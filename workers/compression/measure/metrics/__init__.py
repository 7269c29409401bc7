"""How metrics are computed: numpy in, a number out, summed up so that no output is kept."""
