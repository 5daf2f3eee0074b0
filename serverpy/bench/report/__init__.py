"""The report on the results of a bench run: verdicts on claims and limits, tables, charts, Markdown and HTML. This
package measures nothing."""
