"""Reads results and shows them: verdicts on claims and limits, tables, charts, Markdown and HTML. Measures nothing."""
