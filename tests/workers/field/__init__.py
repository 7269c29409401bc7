"""Small graphs with the traits of models that people reported bugs about, through the engine."""
