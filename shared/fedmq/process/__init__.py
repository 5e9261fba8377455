"""One process of a distributed alliance: settings, identity, connections, signals, health page, logs."""
