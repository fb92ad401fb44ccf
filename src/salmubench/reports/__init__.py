"""What people look at: the table in the terminal, the static page and its figures. Reads reports, never a model."""
