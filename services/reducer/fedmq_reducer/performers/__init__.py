"""What carries out a reducer's effects: records, aggregation, retention."""
