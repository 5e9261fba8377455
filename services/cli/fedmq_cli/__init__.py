"""The `fedmq` command. A missing dependency is answered with the extra that installs it."""
