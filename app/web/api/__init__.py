"""The routes of ``/v1``: one router a resource."""
