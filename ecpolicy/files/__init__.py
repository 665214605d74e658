"""Model files: an archive, a codec for what it holds, and the loading of policies."""
