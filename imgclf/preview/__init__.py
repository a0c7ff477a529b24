"""`imgclf preview`: show a data folder as a table, a contact sheet and an HTML page."""
