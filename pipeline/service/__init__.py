"""The REST service over galleries, and the page that it serves."""
