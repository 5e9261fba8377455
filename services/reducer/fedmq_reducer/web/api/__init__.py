"""The reducer's REST API. It only publishes control messages, reads records and stores seeds; whichever reducer decides,
any reducer's API will do, a standby's too."""
