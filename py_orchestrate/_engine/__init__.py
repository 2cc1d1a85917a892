"""The engine: decides, runs, records. Nothing here is public, and nothing here knows which database it is on."""
