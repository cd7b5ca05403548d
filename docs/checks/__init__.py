"""Checks of the site: public names have an entry, internal links have a target, and commands exist as shown."""
