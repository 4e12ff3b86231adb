"""What a run found, as one page that opens anywhere: no server, no network, no tensor files."""
