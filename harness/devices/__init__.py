"""Where jobs run: a launcher plus a link."""
