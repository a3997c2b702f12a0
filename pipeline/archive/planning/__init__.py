"""What has to be extracted, cut into work units."""
