"""The broker port on RabbitMQ: one I/O thread a link, publisher confirms, acknowledgements."""
