"""`imgclf preview`: what is in a data folder, as a table, a contact sheet and a page."""
