"""Findings and lab results for people and programs. Submodules are imported when something is drawn."""
