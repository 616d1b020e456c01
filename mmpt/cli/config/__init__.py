"""Task configs: list those of the package, show and check them."""
