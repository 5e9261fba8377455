"""The pages, one a file: each reads what it shows, and turns it into components with a pure function."""
