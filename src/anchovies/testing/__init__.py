"""What tests the edges: suites for plugins and stores, fakes, faults, servers."""
