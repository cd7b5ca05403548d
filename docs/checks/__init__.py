"""What is checked of the site: public names have an entry, internal links a target, and commands exist as shown."""
