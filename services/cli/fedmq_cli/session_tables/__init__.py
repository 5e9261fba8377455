"""Tables of `fedmq session show` and `fedmq session compare`: means with their counts, and rounds side by side."""
