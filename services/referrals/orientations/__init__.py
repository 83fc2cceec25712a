"""A person is handed over to a partner service: asked, answered by API or by a single-use link, followed to its outcome."""
