"""From a study's records to one HTML page, CSV and recipe files."""
