"""Reports for readers: CSV, Markdown, and one page of HTML that needs nothing but itself."""
