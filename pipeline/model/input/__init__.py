"""From a decoded picture to the input of a network."""
