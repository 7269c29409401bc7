"""The search for steps: strategies that propose, and the turns that file trials as jobs."""
