"""Identity, camera and time from the name of an image."""
