"""What is hard to print."""

HOSTILE = ('<script>alert("1")</script>', "a & b | `c` *d* [e](http://x.example)", "🙂 אבג דהו", "=1+1", "x" * 150)
"""Names that tasks may have, if not in a package: a report can come from anywhere."""
