"""Reference pages of workflows and components, in Markdown: the same bytes for the same things, to be kept in git."""
