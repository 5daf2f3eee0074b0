"""Reads results and shows them: claims and limits judged, tables, charts, Markdown and HTML. Measures nothing."""
