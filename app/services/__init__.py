"""The operations of the service, which the API and the dashboard both call."""
