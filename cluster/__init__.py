"""Connect to Ray, and provide what a cluster needs to run Regallery."""
