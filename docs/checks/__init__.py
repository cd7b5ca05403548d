"""What is checked of the built site: every public name is on a page, and every internal link has a target."""
