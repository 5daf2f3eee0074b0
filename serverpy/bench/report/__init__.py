"""The report on results: verdicts on claims and limits, tables, charts, Markdown and HTML. It measures nothing."""
