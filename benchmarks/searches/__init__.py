"""What `search.py` measures with. Nothing here is imported by the package."""
