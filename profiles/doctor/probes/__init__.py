"""Small looks at one thing each. They run in processes of their own: what they load may be broken."""
