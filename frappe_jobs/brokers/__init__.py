"""What carries the messages: Redis or RabbitMQ."""
